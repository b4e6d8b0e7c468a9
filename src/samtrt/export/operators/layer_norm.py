"""SamtrtLayerNorm: layer norm over channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtLayerNorm(x: FLOAT, weight: FLOAT, bias: FLOAT, epsilon: float) -> FLOAT:
    """[B, C, G, G], [C], [C] to [B, C, G, G]."""
    last = op.Transpose(x, perm=[0, 2, 3, 1])
    layer_norm = op.LayerNormalization(last, weight, bias, axis=-1, epsilon=epsilon)
    y = op.Transpose(layer_norm, perm=[0, 3, 1, 2])
    return y


def normalize(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Normalise [B, C, G, G] over C, in float32."""
    import torch.nn.functional as F

    last = F.layer_norm(
        x.permute(0, 2, 3, 1).float(), weight.shape, weight.float(), bias.float(), epsilon
    )
    return last.to(x.dtype).permute(0, 3, 1, 2).contiguous()


def _shape(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


LAYER_NORM = Operator(SamtrtLayerNorm, normalize, _shape, float32={"weight", "bias"})
