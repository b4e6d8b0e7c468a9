"""SamtrtPlaceLayerNorm: tokens with what their place adds, and the layer norm of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.layer_norm import normalize
from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtPlaceLayerNorm(
    x: FLOAT, places: FLOAT, weight: FLOAT, bias: FLOAT, epsilon: float
) -> tuple[FLOAT, FLOAT]:
    """[B, C, G, G], [G, G, C], [C], [C] to x + places and that normalised, both [B, C, G, G]."""
    total = op.Add(x, op.Transpose(places, perm=[2, 0, 1]))
    last = op.Transpose(total, perm=[0, 2, 3, 1])
    layer_norm = op.LayerNormalization(last, weight, bias, axis=-1, epsilon=epsilon)
    y = op.Transpose(layer_norm, perm=[0, 3, 1, 2])
    return total, y


def _compute(
    x: Tensor, places: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    total = (x + places.permute(2, 0, 1)).to(x.dtype).contiguous()
    return total, normalize(total, weight, bias, epsilon)


def _shape(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


PLACE_LAYER_NORM = Operator(
    SamtrtPlaceLayerNorm, _compute, _shape, float32={"places", "weight", "bias"}
)
