"""Which nodes stay in float32: sums of residual connections, and what carries them."""

from __future__ import annotations

import onnx
from onnx import NodeProto, helper

from samtrt.choices import Float32Part
from samtrt.export.float32_parts import float32_nodes


def node(operator: str, inputs: str, output: str, **attributes: int) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], output, **attributes)


def kept(*nodes: NodeProto) -> set[str]:
    """Return the names of the nodes that stay in float32 as sums."""
    graph = onnx.GraphProto(node=nodes)
    return {nodes[i].name for i in float32_nodes(graph, {"x"}, [Float32Part.SUMS])}


def test_sums_of_blocks_and_what_carries_them() -> None:
    found = kept(
        node("MatMul", "x weight", "first"),
        node("MatMul", "first weight", "branch"),
        node("Add", "branch bias", "biased"),
        node("Add", "first biased", "sum"),
        node("Reshape", "sum shape", "image"),
        node("Conv", "image kernel", "local", group=8),
        node("Transpose", "local", "tokens"),
        node("MatMul", "tokens weight", "other"),
        node("Add", "tokens other", "last"),
        node("Conv", "last kernel", "out"),
    )
    assert found == {"sum", "image", "local", "tokens", "last"}


def test_convolutions_that_lead_to_no_sum_carry_none() -> None:
    found = kept(
        node("Relu", "x", "first"),
        node("Relu", "first", "second"),
        node("Add", "first second", "sum"),
        node("Conv", "sum kernel", "deep", group=8),
        node("Relu", "deep", "end"),
    )
    assert found == {"sum"}


def test_sums_of_scores_and_within_activations_are_none() -> None:
    found = kept(
        node("MatMul", "x weight", "q"),
        node("Unsqueeze", "q one", "rows"),
        node("Unsqueeze", "q two", "columns"),
        node("Add", "rows columns", "terms"),
        node("Reshape", "terms shape", "places"),
        node("Add", "q places", "scores"),
        node("Softmax", "scores", "shares"),
        node("Mul", "shares cubic", "cube"),
        node("Add", "shares cube", "bent"),
        node("Mul", "bent half", "inner"),
        node("Tanh", "inner", "end"),
    )
    assert found == set()
