"""The last steps of an exported graph: its opset, what is particular to TensorRT, its checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samtrt._version import __version__
from samtrt.backends.base import stage_tensors
from samtrt.choices import AnyStage
from samtrt.errors import ExportError, MissingExtraError
from samtrt.export.operators.graph import add_functions
from samtrt.export.precision import save_graph
from samtrt.manifest import Manifest

try:
    import onnx
except ImportError:
    raise MissingExtraError("Exporting to ONNX", "export", "onnx") from None

EXPORTER_OLDEST = 18
"""The oldest opset that PyTorch's exporter writes."""


def finish_graph(path: Path, final: Path, opset: int) -> None:
    """Bring a graph to its opset, write it (as one file where it fits into one) and check it.

    Raises:
        ExportError: where the graph is of another opset, and cannot be of this one.
    """
    model = onnx.load(path, load_external_data=False)
    domain = next(entry for entry in model.opset_import if entry.domain == "")
    if opset < EXPORTER_OLDEST and domain.version == EXPORTER_OLDEST:
        # Opset 18 added inputs and attributes to operators of 17 and changed no meaning, so a
        # graph that uses none of them is one of 17: the full check below is the proof.
        domain.version = opset
        _split_by_outputs(model)
        _spell_out_shapes(model)
    if domain.version != opset:
        raise ExportError(
            f"asked for opset {opset} and got {domain.version}; choose another --opset"
        )
    model.producer_name, model.producer_version = "samtrt", __version__
    # Traces of the source code: they name the exporting machine's paths and bloat the file.
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    add_functions(model)
    onnx.load_external_data_for_model(model, str(path.parent))
    save_graph(model, final)


def _split_by_outputs(model: onnx.ModelProto) -> None:
    """Leave out in how many parts `Split` cuts: before opset 18 its outputs tell, and are equal.

    Where they could not be, the sizes are an input, or the full check of the graph fails.
    """
    for node in model.graph.node:
        if node.op_type == "Split":
            kept = [attribute for attribute in node.attribute if attribute.name != "num_outputs"]
            del node.attribute[:]
            node.attribute.extend(kept)


def _spell_out_shapes(model: onnx.ModelProto) -> None:
    """Write `Shape` of some dimensions as `Shape` and `Slice`: TensorRT 8.6 ignores which ones."""
    nodes = []
    for node in model.graph.node:
        bounds = {a.name: a.i for a in node.attribute} if node.op_type == "Shape" else {}
        nodes.append(node)
        if "end" not in bounds and not bounds.get("start"):
            continue
        name, whole = node.output[0], f"{node.output[0]}_whole"
        numbers = []
        for word in ("start", "end"):
            value = np.array(
                [bounds.get(word, 0 if word == "start" else np.iinfo(np.int64).max)], np.int64
            )
            numbers.append(f"{name}_{word}")
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, numbers[-1]))
        nodes.append(onnx.helper.make_node("Slice", [whole, *numbers], [name], f"{node.name}_part"))
        node.output[0] = whole
        del node.attribute[:]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def check_borders(path: Path, stage: AnyStage, manifest: Manifest) -> None:
    """Make sure that the graph has the inputs and outputs that every backend relies on.

    Raises:
        ExportError: where it has others.
    """
    graph = onnx.load(path, load_external_data=False).graph
    for declared, designed in zip(
        (graph.input, graph.output), stage_tensors(manifest, stage), strict=True
    ):
        found = [
            (
                value.name,
                tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
            )
            for value in declared
        ]
        expected = [(info.name, info.shape) for info in designed]
        if found != expected:
            raise ExportError(f"the graph {path.name} has {found}; it should have {expected}")
