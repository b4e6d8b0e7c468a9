"""SamtrtGeluTanh: y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtGeluTanh(x: FLOAT) -> FLOAT:
    """GELU by tanh of [B, C, G, G]."""
    share, root = op.Constant(value_float=0.044715), op.Constant(value_float=0.7978845608)
    one, half = op.Constant(value_float=1.0), op.Constant(value_float=0.5)
    cube = op.Mul(op.Mul(x, x), x)
    bent = op.Tanh(op.Mul(op.Add(x, op.Mul(cube, share)), root))
    y = op.Mul(x, op.Mul(op.Add(bent, one), half))
    return y


def _compute(x: Tensor) -> Tensor:
    import torch.nn.functional as F

    return F.gelu(x, approximate="tanh")


def _shape(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


GELU_TANH = Operator(SamtrtGeluTanh, _compute, _shape)
