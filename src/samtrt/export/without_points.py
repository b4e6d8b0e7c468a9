"""A decoder's graph for prompts that have no point at all: a mask alone.

With N = 0 points the exported graph gives the official answer, where a runtime knows tensors of no
size. TensorRT 8.6 does not ("Could not find any implementation for node {ForeignNode[..."), so that
here they are taken out, and the inputs with them. Needs `onnx` and not PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samtrt.errors import ExportError, MissingExtraError
from samtrt.files import write_atomic

try:
    import onnx
    from onnx import GraphProto, ModelProto, NodeProto, TensorShapeProto, helper
except ImportError:
    raise MissingExtraError("Engines for prompts without a point", "export", "onnx") from None

POINTS = {"point_coords": (0, 2), "point_labels": (0,)}
"""The inputs, and their shapes after the number of prompts."""

_PROMPTS, _EACH = "prompts_of_no_point", "each_of_no_point"
"""Tensors that are made here: the number of prompts, and a truth for each, [P, 1, 1]."""


def write_without_points(path: Path, out: Path) -> None:
    """Write a decoder's graph without its points; weights in a file of their own come along.

    Raises:
        ExportError: where the graph cannot be read, or needs more of the points than their number.
        OutputError: where `out` cannot be written.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf and the file system share no base class
        raise ExportError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    drop_points(model)
    with write_atomic(out) as temporary:
        onnx.save(model, temporary)


def drop_points(model: ModelProto) -> None:
    """Take the points out of a decoder's graph, in place.

    What is computed of points alone is empty, and goes; where it is joined to something, that stays
    as it is; their number is 0, and shapes that are made of it are constants.

    Raises:
        ExportError: where something else is made of them.
    """
    graph = model.graph
    shapes = _Shapes(graph)
    empty, kept = set(POINTS), shapes.first_nodes()
    for node in graph.node:
        of_points = [name for name in node.input if name in empty]
        if not of_points:
            kept.append(node)
            shapes.follow(node)
        elif node.op_type == "Shape":
            shapes.of_input(node)
        elif node.op_type == "Concat" and len(of_points) < len(node.input):
            others = [name for name in node.input if name not in empty]
            if len(others) == 1:
                kept.append(helper.make_node("Identity", others, node.output, node.name))
            else:
                axis = _integer(node, "axis", 0)
                kept.append(helper.make_node("Concat", others, node.output, node.name, axis=axis))
        else:
            empty.update(node.output)
    shapes.settle(kept)
    outputs = {value.name for value in graph.output}
    kept = _needed(kept, set(outputs))
    used = {name for node in kept for name in node.input}
    made = {name for node in kept for name in node.output}
    made |= {value.name for value in [*graph.input, *graph.initializer]} - empty
    if lost := (used | outputs) - made - {""}:
        raise ExportError(f"the decoder computes {', '.join(sorted(lost))} of its points")
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    for values in (graph.input, graph.initializer):
        for value in [value for value in values if value.name not in used]:
            values.remove(value)


class _Shapes:
    """Whole numbers of a graph that are known, or are the number of prompts, which is None.

    Left to TensorRT 8.6, they are not parsed ("first transpose is not valid"), or its engine ends
    the process that runs it.
    """

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name for tensor in graph.initializer}
        self._known: dict[str, list[int | None]] = {}
        self._sizes = {
            value.name: [_size(dim) for dim in value.type.tensor_type.shape.dim]
            for value in graph.value_info
        }
        for tensor in graph.initializer:
            if tensor.data_type == onnx.TensorProto.INT64:
                self._known[tensor.name] = onnx.numpy_helper.to_array(tensor).ravel().tolist()

    def first_nodes(self) -> list[NodeProto]:
        """Return what `settle` puts in the place of other things."""
        column = self._constant([-1, 1, 1])
        flat = f"{_EACH}_flat"
        return [
            helper.make_node("Shape", ["has_mask_input"], [_PROMPTS]),
            helper.make_node("Cast", ["has_mask_input"], [flat], flat, to=onnx.TensorProto.BOOL),
            helper.make_node("Reshape", [flat, column], [_EACH], _EACH),
        ]

    def of_input(self, node: NodeProto) -> None:
        """Take note of the shape, or sizes of it, of an input of points; of others nobody asks."""
        if node.input[0] in POINTS:
            sizes = (None, *POINTS[node.input[0]])
            start, end = _integer(node, "start", 0), _integer(node, "end", len(sizes))
            self._known[node.output[0]] = list(sizes[start:end])

    def follow(self, node: NodeProto) -> None:
        """Take note of what a node makes of known numbers, if it is one of a few."""
        if not self._known.keys() >= set(node.input) or not node.input:
            return
        given = [self._known[name] for name in node.input]
        match node.op_type:
            case "Concat":
                found = [one for each in given for one in each]
            case "Squeeze" | "Unsqueeze" | "Reshape":
                found = given[0]
            case "Slice":
                found = given[0][given[1][0] : given[2][0]]
            case "Add" | "Mul" if None not in given[0] + given[1]:
                a, b = (each[0] or 0 for each in given)
                found = [a + b if node.op_type == "Add" else a * b]
            case _:
                return
        self._known[node.output[0]] = found

    def settle(self, nodes: list[NodeProto]) -> None:
        """Put what is known in the place of what computes it."""
        for node in nodes:
            if node.op_type == "Expand" and None in self._known.get(node.input[1], [None]):
                # To the number of prompts, as all that varies: a choice of twice the same.
                x = node.input[0]
                node.op_type = "Where"
                del node.input[:]
                node.input.extend([_EACH, x, x])
            for index, name in enumerate(node.input):
                known = self._known.get(name)
                if known is None or name in self._constants:
                    continue
                if node.op_type == "Reshape" and index == 1 and known[:1] == [None]:
                    node.input[index] = self._constant(self._reshaped(node, known))
                elif None not in known:
                    node.input[index] = self._constant(known)
                elif known == [None]:
                    node.input[index] = _PROMPTS

    def _reshaped(self, node: NodeProto, known: list[int | None]) -> list[int | None]:
        """Return a shape of which the first size is the number of prompts, as a constant."""
        sizes = self._sizes.get(node.output[0], known)
        each = zip(known[1:], sizes[1:], strict=True)
        return [-1, *(size if one == -1 else one for one, size in each)]

    def _constant(self, values: Sequence[int | None]) -> str:
        name = "_".join(["sizes", *map(str, values)])
        if name not in self._constants:
            array = np.array(values, np.int64)
            self._graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            self._constants.add(name)
        return name


def _size(dim: TensorShapeProto.Dimension) -> int | None:
    """Return a size where there are no points, of which it may be made; None where of more."""
    if not dim.dim_param:
        return int(dim.dim_value)
    sums = [one.strip().split("*") for one in dim.dim_param.split("+")]
    if any("points" not in one and not all(part.isdecimal() for part in one) for one in sums):
        return None
    return sum(math.prod(int(part) for part in one) for one in sums if "points" not in one)


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _needed(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """Return the nodes that something wanted is made of, in their order."""
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted.update(node.input)
    return found[::-1]
