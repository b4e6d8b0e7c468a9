"""A decoder's graph for prompts that have no point at all: a mask alone.

With N = 0 points the exported graph gives the official answer, where a runtime knows tensors of no
size. TensorRT 8.6 does not ("Could not find any implementation for node {ForeignNode[..."), so that
here they are taken out, and the inputs with them. Needs `onnx` and not PyTorch.
"""

from __future__ import annotations

from pathlib import Path

from samtrt.errors import ExportError, MissingExtraError
from samtrt.files import write_atomic

try:
    import onnx
    from onnx import ModelProto, NodeProto, helper
except ImportError:
    raise MissingExtraError("Engines for prompts without a point", "export", "onnx") from None

POINTS = {"point_coords": (0, 2), "point_labels": (0,)}
"""The inputs, and their shapes after the number of prompts."""

_PROMPTS = "prompts_of_no_point"


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
    as it is; their number is 0.

    Raises:
        ExportError: where something else is made of them.
    """
    graph = model.graph
    empty, kept = set(POINTS), [helper.make_node("Shape", ["has_mask_input"], [_PROMPTS])]
    for node in graph.node:
        of_points = [name for name in node.input if name in empty]
        if not of_points:
            kept.append(node)
        elif node.op_type == "Shape":
            kept += _shape(node)
        elif node.op_type == "Concat" and len(of_points) < len(node.input):
            others = [name for name in node.input if name not in empty]
            if len(others) == 1:
                kept.append(helper.make_node("Identity", others, node.output, node.name))
            else:
                axis = _integer(node, "axis", 0)
                kept.append(helper.make_node("Concat", others, node.output, node.name, axis=axis))
        else:
            empty.update(node.output)
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


def _shape(node: NodeProto) -> list[NodeProto]:
    """Return what gives the shape, or sizes of it, of an input of points."""
    if node.input[0] not in POINTS:
        return []  # the shape of what is made of points, which only that needs
    sizes = (None, *POINTS[node.input[0]])  # None: the number of prompts
    wanted = sizes[_integer(node, "start", 0) : _integer(node, "end", len(sizes))]
    names, nodes = [], []
    for size in wanted:
        names.append(_PROMPTS if size is None else f"{node.output[0]}_{size}")
        if size is not None:
            nodes.append(helper.make_node("Constant", [], names[-1:], value_ints=[size]))
    return [*nodes, helper.make_node("Concat", names, node.output, node.name, axis=0)]


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
