"""SamtrtAddLayerNorm: a sum, and its layer norm over channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.layer_norm import normalize
from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtAddLayerNorm(
    x: FLOAT, delta: FLOAT, weight: FLOAT, bias: FLOAT, epsilon: float
) -> tuple[FLOAT, FLOAT]:
    """[B, C, G, G] twice, [C], [C] to x + delta and that normalised, both [B, C, G, G]."""
    total = op.Add(x, delta)
    last = op.Transpose(total, perm=[0, 2, 3, 1])
    layer_norm = op.LayerNormalization(last, weight, bias, axis=-1, epsilon=epsilon)
    y = op.Transpose(layer_norm, perm=[0, 3, 1, 2])
    return total, y


def _compute(
    x: Tensor, delta: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    total = (x + delta).contiguous()
    return total, normalize(total, weight, bias, epsilon)


def _shape(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


ADD_LAYER_NORM = Operator(SamtrtAddLayerNorm, _compute, _shape, float32={"weight", "bias"})
