"""The last steps of an exported graph: its opset, what is particular to TensorRT, its checks."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from samtrt._version import __version__
from samtrt.backends.base import stage_tensors
from samtrt.choices import AnyStage
from samtrt.errors import ExportError, MissingExtraError
from samtrt.export.nodes import rewrite
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
        _without_new_attributes(model)
        _axes_as_attributes(model)
        _spell_out_shapes(model)
        _flatten_biases(model)
        _multiply_out_cubes(model)
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


_SINCE_18: dict[str, dict[str, Any]] = {
    "Split": {"num_outputs": None},
    "Resize": {"keep_aspect_ratio_policy": b"stretch", "antialias": 0},
}
"""Attributes that came with opset 18, and the value that says what 17 does; None for every value.

`Split` cuts into as many parts as it has outputs: where these could not be equal, the sizes are an
input, or the full check of the graph fails."""


def _without_new_attributes(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        usual = _SINCE_18.get(node.op_type, {})
        kept = [
            attribute
            for attribute in node.attribute
            if attribute.name not in usual
            or usual[attribute.name] not in (None, onnx.helper.get_attribute_value(attribute))
        ]
        del node.attribute[:]
        node.attribute.extend(kept)


def _axes_as_attributes(model: onnx.ModelProto) -> None:
    """Give means their axes as an attribute, where opset 18 has an input."""
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    values |= {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    for node in graph.node:
        if node.op_type == "ReduceMean" and len(node.input) > 1 and node.input[1] in values:
            axes = onnx.numpy_helper.to_array(values[node.input[1]]).tolist()
            kept = [one for one in node.attribute if one.name != "noop_with_empty_axes"]
            del node.input[1], node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("axes", axes)])


def _spell_out_shapes(model: onnx.ModelProto) -> None:
    """Write `Shape` of some dimensions as `Shape` and `Slice`: TensorRT 8.6 ignores which ones."""

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        bounds = {a.name: a.i for a in node.attribute} if node.op_type == "Shape" else {}
        if "end" not in bounds and not bounds.get("start"):
            return None
        name, whole = node.output[0], f"{node.output[0]}_whole"
        numbers = []
        for word in ("start", "end"):
            value = np.array(
                [bounds.get(word, 0 if word == "start" else np.iinfo(np.int64).max)], np.int64
            )
            numbers.append(f"{name}_{word}")
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, numbers[-1]))
        node.output[0] = whole
        del node.attribute[:]
        part = onnx.helper.make_node("Slice", [whole, *numbers], [name], f"{node.name}_part")
        return [node, part]

    rewrite(model.graph, change)


def _flatten_biases(model: onnx.ModelProto) -> None:
    """Add constant biases to scores of attention as rows of one dimension.

    TensorRT 8.6 takes what lies between two products for attention, and died of a ViT in which a
    constant of several dimensions was added there, as TinyViT's learnt biases are.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    softened = {node.input[0] for node in graph.node if node.op_type == "Softmax"}
    readers = Counter(name for node in graph.node for name in node.input)
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "Add" or node.output[0] not in softened:
            return None
        scores, bias = sorted(node.input, key=lambda name: name in weights)
        dims = tuple(weights[bias].dims) if bias in weights else ()
        # All but the first dimension of the scores, of which windows and images are.
        if len(dims) < 2 or ranks.get(scores) != len(dims) + 1 or readers[bias] > 1:
            return None
        name, shapes = node.output[0], [f"{bias}_{word}_shape" for word in ("row", "whole")]
        for shape, value in zip(shapes, ((-1, math.prod(dims)), (-1, *dims)), strict=True):
            weight = onnx.numpy_helper.from_array(np.array(value, np.int64), shape)
            graph.initializer.append(weight)
        weights[bias].ClearField("dims")
        weights[bias].dims.append(math.prod(dims))
        make = onnx.helper.make_node
        return [
            make("Reshape", [scores, shapes[0]], [f"{name}_row"], f"{node.name}_row"),
            make("Add", [f"{name}_row", bias], [f"{name}_added"], node.name),
            make("Reshape", [f"{name}_added", shapes[1]], [name], f"{node.name}_whole"),
        ]

    rewrite(graph, change)


def _multiply_out_cubes(model: onnx.ModelProto) -> None:
    """Write third powers, as GELU by tanh has them, as two products.

    TensorRT 8.6 joins an activation to the convolution before it, and has no implementation for one
    with a power after a convolution of each channel.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        power = weights.get(node.input[1]) if node.op_type == "Pow" else None
        if power is None or onnx.numpy_helper.to_array(power).tolist() != 3:
            return None
        x, name, make = node.input[0], node.output[0], onnx.helper.make_node
        return [
            make("Mul", [x, x], [f"{name}_square"], f"{node.name}_square"),
            make("Mul", [f"{name}_square", x], [name], node.name),
        ]

    rewrite(model.graph, change)


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
