"""SamtrtLinearGelu: a linear layer over channels, and GELU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.gelu import SamtrtGelu
from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtLinearGelu(x: FLOAT, weight: FLOAT, bias: FLOAT) -> FLOAT:
    """GELU of a 1x1 convolution: [B, C, G, G], [D, C], [D] to [B, D, G, G]."""
    kernel = op.Unsqueeze(weight, op.Constant(value_ints=[2, 3]))
    y = SamtrtGelu(op.Conv(x, kernel, bias))
    return y


def _compute(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    import torch.nn.functional as F

    return F.gelu(F.conv2d(x, weight[:, :, None, None], bias))


def _shape(x: Tensor, weight: Tensor, _bias: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])


LINEAR_GELU = Operator(SamtrtLinearGelu, _compute, _shape, float32={"bias"})
