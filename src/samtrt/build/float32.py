"""Layers of a weakly typed network (TensorRT 8.6) made to stay in float32, as their nodes do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samtrt.build.options import NodePrecision


def keep_float32(trt: Any, network: Any, nodes: Sequence[NodePrecision]) -> list[str]:
    """Constrain layers to float32, to be obeyed with `OBEY_PRECISION_CONSTRAINTS`.

    Args:
        trt: The bindings module.
        network: A parsed network.
        nodes: Of its graph.

    Returns:
        Names of the constrained layers.
    """
    is_float32 = {name: node.is_float32 for node in nodes for name in node.outputs}
    kept = []
    waiting: list[Any] = []
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        # The parser makes one or more layers of a node, one node after another. Tensors that a node
        # makes have its names for them, those between its layers have others.
        waiting.append(layer)
        made = [is_float32.get(tensor.name) for tensor in _outputs(layer)]
        if any(known is not None for known in made):
            if any(made):
                kept += [one.name for one in waiting if _constrain(trt, one)]
            waiting = []
    return kept


def _constrain(trt: Any, layer: Any) -> bool:
    """Let a layer compute in float32; return False for one that has no precision to constrain."""
    # Constants, casts and shape arithmetic have none; plugins have their own.
    if layer.type.name in ("CONSTANT", "CAST", "PLUGIN_V2"):
        return False
    outputs = list(_outputs(layer))
    if not {tensor.dtype for tensor in outputs} <= {trt.float32, trt.float16}:
        return False
    layer.precision = trt.float32
    for i in range(len(outputs)):
        layer.set_output_type(i, trt.float32)
    return True


def _outputs(layer: Any) -> list[Any]:
    return [layer.get_output(i) for i in range(layer.num_outputs)]
