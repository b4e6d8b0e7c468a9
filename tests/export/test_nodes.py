"""Nodes are put in the place of others, in order."""

from __future__ import annotations

from onnx import NodeProto, helper

from samtrt.export.nodes import rewrite


def test_each_node_stays_goes_or_becomes_others() -> None:
    kinds = ("Relu", "Identity", "Neg", "Relu")
    nodes = [helper.make_node(kind, [f"x{i}"], [f"x{i + 1}"]) for i, kind in enumerate(kinds)]
    graph = helper.make_graph(nodes, "chain", [], [])

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type == "Identity":
            return []
        if node.op_type == "Neg":
            return [helper.make_node("Abs", node.input, ["between"]), node]
        return None

    rewrite(graph, change)
    assert [node.op_type for node in graph.node] == ["Relu", "Abs", "Neg", "Relu"]
    assert [node.output[0] for node in graph.node] == ["x1", "between", "x3", "x4"]
