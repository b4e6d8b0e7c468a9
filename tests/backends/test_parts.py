"""Graphs in parts: together they compute what the whole does, and each only what it must."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from samtrt.backends.parts import Part, parts_of

INPUTS = [["image"], ["mask"], ["points"]]
FLOAT = TensorProto.FLOAT


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


NODES = [
    node("Neg", "weight", "constant"),
    node("MatMul", "image constant", "rows"),
    node("Add", "rows mask", "placed"),
    node("Transpose", "placed", "columns", perm=[0, 2, 1]),
    node("MatMul", "points columns", "scores"),
    node("MatMul", "scores placed", "mixed"),
    node("MatMul", "mixed constant", "result"),
]
SHAPES: dict[str, list[int | str]] = {
    "image": [1, 6, 4],
    "mask": ["prompts", 6, 4],
    "points": ["prompts", "points", 4],
    "rows": [1, 6, 4],
    "placed": ["prompts", 6, 4],
    "columns": ["prompts", 4, 6],
    "result": ["prompts", "points", 4],
}


def graph_of(nodes: list[NodeProto], types: dict[str, int] | None = None) -> ModelProto:
    """A graph of these nodes, from the inputs to `result`."""

    def infos(*names: str) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, (types or {}).get(name, FLOAT), SHAPES[name])
            for name in names
        ]

    weight = np.arange(16, dtype=np.float32).reshape(4, 4) / 8 - 1
    graph = helper.make_graph(
        nodes,
        "whole",
        infos("image", "mask", "points"),
        infos("result"),
        [numpy_helper.from_array(weight, "weight")],
        value_info=infos("rows", "placed", "columns"),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def split(model: ModelProto) -> list[Part]:
    parts = parts_of(model.SerializeToString(), INPUTS)
    assert parts
    return parts


def refused(model: ModelProto) -> bool:
    return parts_of(model.SerializeToString(), INPUTS) is None


def run(model: bytes, values: dict[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {one.name: values[one.name] for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def graphs(parts: list[Part]) -> list[GraphProto]:
    return [onnx.load_from_string(part.model).graph for part in parts]


@pytest.mark.parametrize("masks", [1, 3])
def test_parts_give_what_the_whole_gives(masks: int) -> None:
    rng, model = np.random.default_rng(0), graph_of(NODES)
    shapes = {"image": (1, 6, 4), "mask": (masks, 6, 4), "points": (3, 2, 4)}
    values: dict[str, Any] = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    whole = run(model.SerializeToString(), values)
    for part in split(model):
        onnx.checker.check_model(onnx.load_from_string(part.model), full_check=True)
        values |= run(part.model, values)
    np.testing.assert_array_equal(values["result"], whole["result"])


def test_each_part_takes_what_it_needs() -> None:
    first, second, third = split(graph_of(NODES))
    assert (first.inputs, first.outputs) == (("image",), ("rows",))
    assert (second.inputs, second.outputs) == (("mask", "rows"), ("placed",))
    # Columns are rows that the last part has already.
    assert (third.inputs, third.outputs) == (("points", "placed"), ("result",))


def test_constants_are_made_where_they_are_used() -> None:
    operators = [[one.op_type for one in graph.node] for graph in graphs(split(graph_of(NODES)))]
    assert operators[0] == ["Neg", "MatMul"]
    assert operators[1] == ["Add"]
    assert operators[2] == ["Neg", "Transpose", "MatMul", "MatMul", "MatMul"]
    weights = [len(graph.initializer) for graph in graphs(split(graph_of(NODES)))]
    assert weights == [1, 0, 1]


def test_a_transposition_is_made_once_where_its_source_goes_no_further() -> None:
    nodes = [*NODES[:5], node("Add", "points points", "mixed"), NODES[6]]
    nodes[5:6] = [node("MatMul", "scores twice", "mixed"), node("Add", "placed placed", "twice")]
    nodes = [*nodes[:3], nodes[6], *nodes[3:6], nodes[7]]
    model = graph_of(nodes)
    model.graph.value_info.append(helper.make_tensor_value_info("twice", FLOAT, ["prompts", 6, 4]))
    assert set(split(model)[1].outputs) == {"twice", "columns"}


def test_what_was_made_for_one_prompt_goes_with_many() -> None:
    (_, placed) = graphs(split(graph_of(NODES)))[2].input
    dimensions = placed.type.tensor_type.shape.dim
    assert [one.dim_value for one in dimensions] == [0, 6, 4]
    assert dimensions[0].dim_param not in ("", "prompts")


def test_what_cannot_be_taken_apart() -> None:
    assert refused(graph_of([*NODES[:2], *NODES[4:]][:0]))  # nothing gives the result
    # A mask that is of no use: its part would have nothing to do.
    assert refused(graph_of([*NODES[:2], node("MatMul", "points rows", "result")]))
    assert refused(graph_of(NODES, {"placed": TensorProto.DOUBLE}))
    unknown = graph_of(NODES)
    del unknown.graph.value_info[:]
    assert refused(unknown)
    assert refused(graph_of([*NODES, node("If", "points", "unused")]))
    other = graph_of(NODES)
    other.graph.input.append(helper.make_tensor_value_info("other", FLOAT, [1]))
    assert refused(other)
    sparse = graph_of(NODES)
    sparse.graph.sparse_initializer.add()
    assert refused(sparse)


def test_files_that_are_none() -> None:
    content = graph_of(NODES).SerializeToString()
    for damaged in (content[:-20], b"", b"no graph at all", b"\xff" * 40):
        assert parts_of(damaged, INPUTS) is None
