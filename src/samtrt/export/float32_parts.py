"""Which nodes of a float32 graph stay in float32 where the rest computes in half precision.

By default layer norms do, as their variance overflows float16 in the larger models
(segment-anything#540), means over an image's cells, whose sum may overflow it, and all that does
not depend on the image: sines of coordinates need the precision, and cost next to nothing.
Divisions by sums of products, as linear attention has them, stay in float32 too. Needs `onnx`, not
PyTorch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from samtrt.choices import (
    DEFAULT_FLOAT32,
    AnyStage,
    Float32Part,
    Precision,
    Stage,
    VideoStage,
)
from samtrt.export.operators.graph import DOMAIN

if TYPE_CHECKING:
    import onnx

EXPORTED_PARTS = {
    Precision.FP16: frozenset(DEFAULT_FLOAT32),
    Precision.BF16: frozenset({*DEFAULT_FLOAT32, Float32Part.SUMS}),
}
"""What stays in float32 in exported graphs: of bfloat16's 8 bits, sums of many blocks keep few."""

FLOAT32_STAGES: dict[Precision, frozenset[AnyStage]] = {
    Precision.FP32: frozenset({*Stage, *VideoStage}),
    Precision.FP16: frozenset(),
    Precision.BF16: frozenset({Stage.DECODER, VideoStage.VIDEO_DECODER}),
}
"""Which graphs are exported whole in float32: masks are what a decoder's logits are above, which in
bfloat16 were as far off as the encoder makes them."""

_OPERATORS = {
    Float32Part.NORMS: {"LayerNormalization", "ReduceMean"},
    Float32Part.SOFTMAX: {"Softmax"},
}


def float32_nodes(
    graph: onnx.GraphProto, image_inputs: Collection[str], parts: Collection[Float32Part]
) -> list[int]:
    """Return the indexes of the nodes that stay in float32.

    Args:
        graph: Nodes in topological order.
        image_inputs: What depends on none of them is part of the prompts.
        parts: What to keep.
    """
    operators = set().union(*(_OPERATORS.get(part, set()) for part in parts))
    depends = set(image_inputs)
    kept = []
    found = _divisions(graph) if Float32Part.DIVISIONS in parts else set()
    found |= _sums(graph) if Float32Part.SUMS in parts else set()
    for i, node in enumerate(graph.node):
        on_image = not depends.isdisjoint(node.input)
        if on_image:
            depends.update(node.output)
        if node.domain == DOMAIN:
            continue  # the plugin has its own types, and sums in float32
        of_prompts = not on_image and Float32Part.PROMPTS in parts
        if node.op_type in operators or of_prompts or i in found:
            kept.append(i)
    return kept


def _divisions(graph: onnx.GraphProto) -> set[int]:
    """Return the indexes of divisions by matrix products, and of what leads to them from these."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output}
    found = set()
    for i, node in enumerate(graph.node):
        if node.op_type != "Div":
            continue
        around, products = {i}, 0
        waiting = [(name, 2) for name in node.input]  # products of products, and no further
        while waiting:
            name, left = waiting.pop()
            maker = makers.get(name)
            if maker is None or not left:
                continue
            before = graph.node[maker]
            if before.op_type not in ("Slice", "Clip", "Max", "MatMul"):
                continue
            around.add(maker)
            products += before.op_type == "MatMul"
            left -= before.op_type == "MatMul"
            waiting += [(each, left) for each in before.input]
        if products:
            found |= around
    return found


_LAYOUT = {"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""What changes how values lie, and none of them."""

_BEFORE_SCORES = {"Add", "Mul", *_LAYOUT}
_SCORES = {"Erf", "Softmax", "Tanh"}
"""Sums that lead here through the former are of scores, or within an activation."""


def _sums(graph: onnx.GraphProto) -> set[int]:
    """Return the indexes of sums of residual connections, and of what carries them.

    A sum is of two computed tensors. It is carried by changes of layout, and by convolutions of
    each channel that lead from one sum to another, as TinyViT's blocks have them.
    """
    nodes = graph.node
    computed = {name for node in nodes if node.op_type != "Constant" for name in node.output}
    readers: dict[str, list[int]] = defaultdict(list)
    for i, node in enumerate(nodes):
        for name in node.input:
            readers[name].append(i)

    def after(index: int, through: Collection[str]) -> Iterator[int]:
        """Yield what reads a node's results, and what reads those of `through` among them."""
        waiting, seen = [index], set[int]()
        while waiting:
            for name in nodes[waiting.pop()].output:
                for reader in readers[name]:
                    if reader not in seen:
                        seen.add(reader)
                        yield reader
                        if nodes[reader].op_type in through:
                            waiting.append(reader)

    sums = {
        i
        for i, node in enumerate(nodes)
        if node.op_type == "Add"
        and computed.issuperset(node.input)
        and all(nodes[j].op_type not in _SCORES for j in after(i, _BEFORE_SCORES))
    }
    found, waiting = set(sums), list(sums)
    while waiting:
        for reader in after(waiting.pop(), _LAYOUT):
            carries = nodes[reader].op_type in _LAYOUT or (
                _is_of_each_channel(nodes[reader]) and not sums.isdisjoint(after(reader, _LAYOUT))
            )
            if carries and reader not in found:
                found.add(reader)
                if nodes[reader].op_type == "Conv":
                    waiting.append(reader)
    return found


def _is_of_each_channel(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
