"""A float32 graph made a typed one: half precision where that is safe, with the casts spelled out.

Every half precision of ours begins here: graphs exported so, graphs that a strongly typed engine is
built from, and the constraints of a weakly typed one. Needs `onnx`, not PyTorch.

What stays in float32 is said by `Float32Part`, and found by `float32_parts`.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samtrt.choices import DEFAULT_FLOAT32, Float32Part, Precision
from samtrt.errors import ExportError, MissingExtraError
from samtrt.export.float32_parts import float32_nodes
from samtrt.export.operators.graph import DOMAIN

try:
    import onnx
    from onnx import NodeProto, TensorProto, helper, numpy_helper
except ImportError:
    raise MissingExtraError("Changing a graph's precision", "export", "onnx") from None

if TYPE_CHECKING:
    from samtrt.export.operators.operator import Operator

SINGLE_FILE_LIMIT = 1_900_000_000
"""A protobuf cannot pass 2 GiB; graphs near it keep their weights in a file beside."""

BFLOAT16_OPSET = 22
"""The first in which every operator that the graphs use takes bfloat16 (Conv was last)."""

_FLOAT32_INPUTS = {"Resize": (1, 2)}
"""Inputs of standard operators that are float32 whatever these compute in: a region, factors."""


def convert(
    model: onnx.ModelProto,
    precision: Precision,
    image_inputs: Collection[str],
    parts: Set[Float32Part] = frozenset(DEFAULT_FLOAT32),
) -> onnx.ModelProto:
    """Change a graph's precision; its inputs and outputs stay float32.

    The plugin's operators get the types that the plugins take, and lose their functions, which are
    for one type.

    Args:
        model: A float32 graph with its weights loaded; it is changed in place and returned, so
            that the weights of a large model are not held twice.
        precision: FP16 or BF16.
        image_inputs: As in `float32_nodes`.
        parts: What stays in float32.

    Raises:
        ExportError: where a weight does not fit the precision.
    """
    low = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}[precision]
    return _Converter(model, low, image_inputs, parts).convert()


class _Converter:
    def __init__(
        self,
        model: onnx.ModelProto,
        low: int,
        image_inputs: Collection[str],
        parts: Collection[Float32Part],
    ) -> None:
        self.model = model
        self.graph = model.graph
        self.low = low
        self.suffix = TensorProto.DataType.Name(low).lower()
        self.kept = set(float32_nodes(self.graph, image_inputs, parts))
        self.floats = float_tensors(model)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.types: dict[str, int] = {value.name: TensorProto.FLOAT for value in self.graph.input}
        self.operators = _plugin_operators(self.graph)
        self.nodes: list[NodeProto] = []
        self.casts: dict[tuple[str, int], str] = {}

    def convert(self) -> onnx.ModelProto:
        for i, node in enumerate(self.graph.node):
            self._convert_node(node, TensorProto.FLOAT if i in self.kept else self.low)
        for value in self.graph.output:
            if self.types[value.name] == self.low:
                self._cast_output(value.name)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in self.weights.values() if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        del self.model.functions[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(kept)
        domain = next(entry for entry in self.model.opset_import if entry.domain == "")
        if self.low == TensorProto.BFLOAT16:
            # Between opsets 20 and 22 operators only gained types; the checker proves it.
            domain.version = max(domain.version, BFLOAT16_OPSET)
        return self.model

    def _convert_node(self, node: NodeProto, target: int) -> None:
        operator = self.operators.get(node.op_type) if node.domain == DOMAIN else None
        fixed = operator.float32_inputs if operator else _FLOAT32_INPUTS.get(node.op_type, ())
        for k, name in enumerate(node.input):
            if name in self.floats and node.op_type != "Shape":
                node.input[k] = self._as(name, TensorProto.FLOAT if k in fixed else target)
        if node.op_type in ("Constant", "ConstantOfShape"):
            for attribute in node.attribute:
                if attribute.t.data_type == TensorProto.FLOAT:
                    attribute.t.CopyFrom(_converted(attribute.t, attribute.t.name, target))
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = target
        for k, name in enumerate(node.output):
            if name in self.floats:
                is_fixed = operator is not None and k in operator.float32_outputs
                self.types[name] = TensorProto.FLOAT if is_fixed else target
        self.nodes.append(node)

    def _as(self, name: str, target: int) -> str:
        """Return the name of a float tensor in the type `target`, adding what makes it."""
        if name in self.weights:
            if target == TensorProto.FLOAT:
                return name
            copy = f"{name}_{self.suffix}"
            if copy not in self.weights:
                self.weights[copy] = _converted(self.weights[name], copy, target)
            return copy
        if self.types[name] == target:
            return name
        if (name, target) not in self.casts:
            cast = f"{name}_{TensorProto.DataType.Name(target).lower()}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], f"cast_{cast}", to=target))
            self.casts[name, target] = cast
        return self.casts[name, target]

    def _cast_output(self, name: str) -> None:
        """Let the node that makes a graph output make another tensor, and cast that to float32."""
        inner = f"{name}_{self.suffix}"
        for node in self.nodes:
            for names in (node.input, node.output):
                for k, other in enumerate(names):
                    if other == name:
                        names[k] = inner
        self.nodes.append(
            helper.make_node("Cast", [inner], [name], f"cast_{name}", to=TensorProto.FLOAT)
        )


def halve_plugin_weights(path: Path) -> None:
    """Give the plugin's operators the weights that they take in half precision in float16.

    Of a weakly typed network, whose inputs TensorRT would convert in every run. The other weights
    are not read where they lie in a file of their own.

    Args:
        path: A float32 graph, written anew.

    Raises:
        ExportError: where the graph cannot be read, or a weight does not fit.
    """
    model = load_graph(path, with_weights=False)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    operators = _plugin_operators(graph)
    halved: dict[str, TensorProto] = {}
    for node in graph.node:
        if node.domain != DOMAIN:
            continue
        for i, name in enumerate(node.input):
            if name in weights and i not in operators[node.op_type].float32_inputs:
                copy = node.input[i] = f"{name}_float16"
                if copy not in halved:
                    tensor = weights[name]
                    halved[copy] = _converted(tensor, copy, TensorProto.FLOAT16, path.parent)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *halved.values()])
    onnx.save(model, path)


def _converted(
    tensor: TensorProto, name: str, target: int, directory: Path | None = None
) -> TensorProto:
    """Return a weight in another type; `directory` has the file that it may lie in."""
    if target == TensorProto.FLOAT:
        return tensor
    values = numpy_helper.to_array(tensor, str(directory or ""))
    with np.errstate(over="ignore"):
        changed = values.astype(helper.tensor_dtype_to_np_dtype(target))
    if not np.isfinite(changed.astype(np.float32)).all():
        raise ExportError(
            f"the weight {tensor.name} has values that "
            f"{TensorProto.DataType.Name(target).lower()} cannot hold; use bf16, or fp32"
        )
    return numpy_helper.from_array(changed, name)


def _plugin_operators(graph: onnx.GraphProto) -> dict[str, Operator]:
    """Return the plugin's operators, by name, where a graph has any."""
    if all(node.domain != DOMAIN for node in graph.node):
        return {}
    from samtrt.export.operators.registry import OPERATORS

    return OPERATORS


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 tensors: inputs, weights, and what nodes make."""
    # Types, not shapes, are wanted: without the weights' bytes a graph of any size will do.
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = model.graph.name
    light.functions.extend(model.functions)
    for field in ("node", "input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        small = len(tensor.raw_data) <= 1024
        light.graph.initializer.append(
            tensor
            if small
            else TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        )
    inferred = onnx.shape_inference.infer_shapes(light).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {t.name for t in inferred.initializer if t.data_type == TensorProto.FLOAT}


def load_graph(path: Path, with_weights: bool = True) -> onnx.ModelProto:
    """Read a graph; without weights, those that lie in a file of their own stay there.

    Raises:
        ExportError: where it is not a graph, or its weights cannot be read.
    """
    try:
        return onnx.load(path, load_external_data=with_weights)
    except Exception as error:  # protobuf, onnx and the file system share no base class
        raise ExportError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, as one file where it fits into one, and check it.

    Its IR version becomes that of its opset: libraries that know no later opset know no later one.

    Raises:
        onnx.checker.ValidationError: where the graph is not valid.
    """
    model.ir_version = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    external = size > SINGLE_FILE_LIMIT
    onnx.save(
        model,
        path,
        save_as_external_data=external,
        location=f"{path.name}.data" if external else None,
    )
    if external:  # onnx makes it readable by its owner alone
        path.with_name(f"{path.name}.data").chmod(path.stat().st_mode)
    onnx.checker.check_model(str(path), full_check=True)
