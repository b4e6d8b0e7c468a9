"""Other nodes in the place of a graph's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from samtrt.errors import MissingExtraError

try:
    from onnx import GraphProto, NodeProto
except ImportError:
    raise MissingExtraError("Rewriting ONNX", "export", "onnx") from None


def rewrite(graph: GraphProto, change: Callable[[NodeProto], Sequence[NodeProto] | None]) -> None:
    """Put what `change` returns in the place of each node; None leaves it."""
    nodes = [(node, change(node)) for node in graph.node]
    del graph.node[:]
    for node, instead in nodes:
        graph.node.extend([node] if instead is None else instead)
