"""Other ways to write the same numbers in a graph, for `bench/trt_bisect.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from samtrt.export.nodes import rewrite

Edit = Callable[[onnx.ModelProto], None]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Return the sizes of a tensor's dimensions, or the names of those that are not fixed."""
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the dimensions of the tensors between nodes."""
    return {value.name: dims_of(value) for value in model.graph.value_info}


def add_constant(model: onnx.ModelProto, name: str, array: np.ndarray[Any, Any]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def sigmoid_for_tanh(model: onnx.ModelProto) -> None:
    """2 sigmoid(2 x) - 1 for tanh(x)."""

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "Tanh":
            return None
        name = node.output[0]
        two, one = (
            add_constant(model, f"{name}_{word}", np.array(value, np.float32))
            for word, value in (("two", 2), ("one", 1))
        )
        steps = [f"{name}/{i}" for i in range(3)]
        return [
            helper.make_node("Mul", [node.input[0], two], [steps[0]], steps[0]),
            helper.make_node("Sigmoid", [steps[0]], [steps[1]], steps[1]),
            helper.make_node("Mul", [steps[1], two], [steps[2]], steps[2]),
            helper.make_node("Sub", [steps[2], one], [name], node.name),
        ]

    rewrite(model.graph, change)


def cast_after_depthwise(model: onnx.ModelProto) -> None:
    """Round what convolutions of each channel give to half precision, so that nothing joins it."""

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        if node.op_type != "Conv" or groups == 1:
            return None
        name = node.output[0]
        node.output[0], half = f"{name}_made", f"{name}_half"
        kinds = onnx.TensorProto
        return [
            node,
            helper.make_node("Cast", [node.output[0]], [half], half, to=kinds.FLOAT16),
            helper.make_node("Cast", [half], [name], f"{name}_back", to=kinds.FLOAT),
        ]

    rewrite(model.graph, change)


def identity_reshape_after_gelu(model: onnx.ModelProto) -> None:
    """A reshape to the same shape after GELU, as the export had where 8.6.0 built the decoder."""
    shapes = shapes_of(model)

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if not node.name.startswith("node_gelu"):
            return None
        name = node.output[0]
        dims = [-1 if isinstance(dim, str) else dim for dim in shapes[name]]
        shape = add_constant(model, f"{name}_shape", np.array(dims))
        node.output[0] = f"{name}_before"
        return [node, helper.make_node("Reshape", [node.output[0], shape], [name], f"{name}_same")]

    rewrite(model.graph, change)


def small_transposes(model: onnx.ModelProto) -> None:
    """The masks' reordering from cells, of eight dimensions, in two transposes of four."""
    known = constants(model)
    nodes = {output: node for node in model.graph.node for output in node.output}

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "Transpose" or list(node.attribute[0].ints) != [0, 1, 2, 4, 6, 3, 5, 7]:
            return None
        before = nodes[node.input[0]]
        side = int(known[before.input[1]][2])
        name, source = node.output[0], before.input[0]
        shapes = {
            "a": add_constant(model, f"{name}_a", np.array([-1, side, 2, 8])),
            "b": add_constant(model, f"{name}_b", np.array([-1, 2 * side, 2, 2])),
        }
        return [
            helper.make_node("Reshape", [source, shapes["a"]], [f"{name}/1"], f"{name}/1"),
            helper.make_node(
                "Transpose", [f"{name}/1"], [f"{name}/2"], f"{name}/2", perm=[0, 2, 1, 3]
            ),
            helper.make_node("Reshape", [f"{name}/2", shapes["b"]], [f"{name}/3"], f"{name}/3"),
            helper.make_node("Transpose", [f"{name}/3"], [name], f"{name}/4", perm=[0, 2, 1, 3]),
        ]

    rewrite(model.graph, change)
    small = [value for value in model.graph.value_info if len(dims_of(value)) < 8]
    del model.graph.value_info[:]
    model.graph.value_info.extend(small)


def linear_as_convolution(model: onnx.ModelProto) -> None:
    """Products with a constant of two dimensions as 1x1 convolutions over [1, C, N, 1]."""
    known = constants(model)
    shapes = shapes_of(model)

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        weight = known.get(node.input[1]) if node.op_type == "MatMul" else None
        dims = shapes.get(node.output[0])
        if weight is None or weight.ndim != 2 or not dims or any(isinstance(d, str) for d in dims):
            return None
        wide = weight.shape[0]
        name = node.output[0]
        into = add_constant(model, f"{name}_into", np.array([1, -1, 1, wide]))
        back = add_constant(model, f"{name}_back", np.array(dims))
        kernel = np.ascontiguousarray(weight.T)[:, :, None, None]
        kernel_name = add_constant(model, f"{name}_kernel", kernel)
        steps = [f"{name}/{i}" for i in range(4)]
        return [
            helper.make_node("Reshape", [node.input[0], into], [steps[0]], steps[0]),
            helper.make_node("Transpose", [steps[0]], [steps[1]], steps[1], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", [steps[1], kernel_name], [steps[2]], steps[2]),
            helper.make_node("Transpose", [steps[2]], [steps[3]], steps[3], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [steps[3], back], [name], node.name),
        ]

    rewrite(model.graph, change)


def primitive_norms(model: onnx.ModelProto) -> None:
    """Layer norms in means, differences and a root."""
    shapes = shapes_of(model)

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "LayerNormalization" or node.output[0] not in shapes:
            return None
        settings = {one.name: one for one in node.attribute}
        epsilon = settings["epsilon"].f if "epsilon" in settings else 1e-5
        x, scale, bias = node.input
        name = node.output[0]
        small = add_constant(model, f"{name}_epsilon", np.array(epsilon, np.float32))
        names = [
            f"{name}/{word}"
            for word in ("mean", "off", "square", "variance", "sum", "root", "unit", "scaled")
        ]
        mean, off, square, variance, total, root, unit, scaled = names
        make = helper.make_node
        return [
            make("ReduceMean", [x], [mean], mean, axes=[-1]),
            make("Sub", [x, mean], [off], off),
            make("Mul", [off, off], [square], square),
            make("ReduceMean", [square], [variance], variance, axes=[-1]),
            make("Add", [variance, small], [total], total),
            make("Sqrt", [total], [root], root),
            make("Div", [off, root], [unit], unit),
            make("Mul", [unit, scale], [scaled], scaled),
            make("Add", [scaled, bias], [name], node.name),
        ]

    rewrite(model.graph, change)


EDITS: dict[str, Edit] = {
    "cast-after-depthwise": cast_after_depthwise,
    "identity-reshape-after-gelu": identity_reshape_after_gelu,
    "linear-as-convolution": linear_as_convolution,
    "primitive-norms": primitive_norms,
    "sigmoid-for-tanh": sigmoid_for_tanh,
    "small-transposes": small_transposes,
}
