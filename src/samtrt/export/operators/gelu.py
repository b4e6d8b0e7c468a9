"""SamtrtGelu: y = x / 2 (1 + erf(x / sqrt 2))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtGelu(x: FLOAT) -> FLOAT:
    """GELU of [B, C, G, G], or of any other shape."""
    root = op.Constant(value_float=1.4142135)
    one, half = op.Constant(value_float=1.0), op.Constant(value_float=0.5)
    y = op.Mul(x, op.Mul(op.Add(op.Erf(op.Div(x, root)), one), half))
    return y


def _compute(x: Tensor) -> Tensor:
    import torch.nn.functional as F

    return F.gelu(x)


def _shape(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


GELU = Operator(SamtrtGelu, _compute, _shape)
