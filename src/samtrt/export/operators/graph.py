"""The operators that a TensorRT plugin runs, and what they mean in standard ones.

`samtrt export --attention plugin` writes nodes of the domain `samtrt`. Each comes with a function
of standard operators in the same file, so that ONNX Runtime and everything else that knows ONNX's
functions runs the graph; TensorRT gets it with the functions stripped, where it has the plugin, or
inlined, where it has not. Needs `onnx` and not PyTorch.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from samtrt.errors import ExportError, MissingExtraError
from samtrt.files import write_atomic

try:
    import onnx
    import onnx.inliner
    from onnx import GraphProto, ModelProto
except ImportError:
    raise MissingExtraError("The plugin form", "export", "onnx") from None

DOMAIN = "samtrt"


def add_functions(model: ModelProto) -> None:
    """Give each of the plugin's operators that a graph has its function, in place.

    A graph without any stays as it is.
    """
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    if not used:
        return
    from samtrt.export.operators.registry import OPERATORS

    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    needed = used.union(*(OPERATORS[name].calls for name in used))
    del model.functions[:]
    model.functions.extend(
        operator.to_function(opset) for name, operator in OPERATORS.items() if name in needed
    )
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))


def strip_functions(path: Path, out: Path) -> None:
    """Write a graph of the plugin's operators alone, as TensorRT's parser takes it with the plugin.

    Args:
        path: As exported.
        out: Where to write. Weights that lie in a file of their own are never read: where `out` is
            in another directory, that file is copied there.

    Raises:
        ExportError: where the graph cannot be read.
        OutputError: where `out` cannot be written.
    """
    model = _load(path)
    del model.functions[:]
    _save(model, path, out)


def inline_fallback(path: Path, out: Path, names: Collection[str] | None = None) -> None:
    """Write a graph with functions' bodies in the place of the plugin's operators.

    Args:
        path: As exported.
        out: Where to write. Weights that lie in a file of their own are never read: where `out` is
            in another directory, that file is copied there.
        names: Of which operators; None for all, which leaves standard operators alone.

    Raises:
        ExportError: where the graph cannot be read.
        OutputError: where `out` cannot be written.
    """
    if names is None:
        model = onnx.inliner.inline_local_functions(_load(path))
        kept = [entry for entry in model.opset_import if entry.domain != DOMAIN]
        del model.opset_import[:], model.functions[:]
        model.opset_import.extend(kept)
    else:
        wanted = [(DOMAIN, name) for name in names]
        model = onnx.inliner.inline_selected_functions(_load(path), wanted)
    _shape_kernels(model.graph)
    for node in model.graph.node:
        # As PyTorch's exporter names nodes. TensorRT's layers get these names, by which norms are
        # told in profiles and messages.
        kind = "layer_norm_" if node.op_type == "LayerNormalization" else ""
        node.name = node.name or f"node_{kind}{node.output[0]}"
    _save(model, path, out)


def weight_shapes(path: Path) -> dict[str, set[tuple[int, ...]]]:
    """Return which of the plugin's operators a graph has, and the shapes of their weights.

    Weights are second inputs that are constants.

    Raises:
        ExportError: where the graph cannot be read.
    """
    graph = _load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found: dict[str, set[tuple[int, ...]]] = {}
    for node in graph.node:
        if node.domain == DOMAIN:
            weights = {shapes[name] for name in node.input[1:2] if name in shapes}
            found.setdefault(node.op_type, set()).update(weights)
    return found


def _shape_kernels(graph: GraphProto) -> None:
    """Let kernels of 1x1 convolutions be weights, where functions make them of matrices.

    TensorRT has its fastest convolutions for kernels that are known when it builds.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    kernels = {node.input[1]: node for node in graph.node if node.op_type == "Conv"}
    for node in graph.node:
        made, matrix = node.output[0], node.input[0] if node.input else ""
        if node.op_type == "Unsqueeze" and made in kernels and uses[matrix] == 1:
            weights[matrix].dims.extend([1, 1])
            kernels[made].input[1] = matrix
    used = {name for node in graph.node for name in node.input}
    used.update(value.name for value in graph.output)
    for _ in range(2):  # the kernel's node, then its constant
        kept = [node for node in graph.node if not used.isdisjoint(node.output)]
        used = {name for node in kept for name in node.input} | {v.name for v in graph.output}
        del graph.node[:]
        graph.node.extend(kept)


def _load(path: Path) -> ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf and the file system share no base class
        raise ExportError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def _save(model: ModelProto, path: Path, out: Path) -> None:
    data = path.with_name(f"{path.name}.data")  # the graph knows it by this name
    if data.exists() and not path.parent.samefile(out.parent):
        # A copy: what reads graphs refuses links, lest they lead out of the directory.
        with write_atomic(out.with_name(data.name)) as temporary:
            shutil.copyfile(data, temporary)
    with write_atomic(out) as temporary:
        onnx.save(model, temporary)
