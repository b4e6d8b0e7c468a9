"""Which layers of a weakly typed network stay in float32 (TensorRT 8.6, and 10 where asked)."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from samtrt.choices import Float32Part


def keep_float32(trt: Any, network: Any, image_input: str, parts: Set[Float32Part]) -> list[str]:
    """Constrain layers to float32, to be obeyed with `OBEY_PRECISION_CONSTRAINTS`.

    Args:
        trt: The bindings module.
        network: A parsed network.
        image_input: The input that tells image from prompt: what does not depend on it is prompt.
        parts: What to keep.

    Returns:
        Names of the constrained layers.
    """
    kept = []
    depends = {image_input}
    floats = {getattr(trt, n) for n in ("float32", "float16", "bfloat16") if hasattr(trt, n)}
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        on_image = any(tensor.name in depends for tensor in _inputs(layer))
        if on_image:
            depends.update(tensor.name for tensor in outputs)
        # Constants, casts and shape arithmetic have no precision to constrain; plugins have theirs.
        fixed = layer.type.name in ("CONSTANT", "CAST", "PLUGIN_V2")
        if fixed or not {t.dtype for t in outputs} <= floats:
            continue
        if not parts.isdisjoint(_parts(trt, layer, on_image)):
            layer.precision = trt.float32
            for i in range(layer.num_outputs):
                layer.set_output_type(i, trt.float32)
            kept.append(layer.name)
    return kept


def _parts(trt: Any, layer: Any, on_image: bool) -> Iterator[Float32Part]:
    if not on_image:
        yield Float32Part.PROMPTS
    if layer.type == trt.LayerType.SOFTMAX:
        yield Float32Part.SOFTMAX
    # A parser that has no such layer spells it out in layers that carry the ONNX node's name.
    normalizes = getattr(trt.LayerType, "NORMALIZATION", None)
    if layer.type == normalizes or "layer_norm" in layer.name.lower():
        yield Float32Part.NORMS


def _inputs(layer: Any) -> Iterator[Any]:
    for i in range(layer.num_inputs):
        tensor = layer.get_input(i)
        if tensor is not None:  # an optional input that is absent
            yield tensor
