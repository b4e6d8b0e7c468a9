"""SamtrtMemoryAttention: attention of one head to many keys, whose values may be narrower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtMemoryAttention(q: FLOAT, k: FLOAT, v: FLOAT, mask: FLOAT) -> FLOAT:
    """softmax(q k / 16 + mask) v: [N, Q, 256], [N, K, 256], [N, K, C] to [N, Q, C].

    What `models.rotary.RotaryAttention` does between its projections. mask [N, K], or [1, K] for
    all, is finite; C is 64 or 256.
    """
    scaled = op.Mul(q, op.Constant(value_float=0.0625))
    scores = op.MatMul(scaled, op.Transpose(k, perm=[0, 2, 1]))
    masked = op.Add(scores, op.Unsqueeze(mask, op.Constant(value_ints=[1])))
    out = op.MatMul(op.Softmax(masked, axis=-1), v)
    return out


def _compute(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    from samtrt.models.rotary import mix_values

    return mix_values(q, k, v, mask)


def _shape(q: Tensor, _k: Tensor, v: Tensor, _mask: Tensor) -> Tensor:
    return q.new_empty(*q.shape[:2], v.shape[2])


MEMORY_ATTENTION = Operator(SamtrtMemoryAttention, _compute, _shape, float32={"mask"})
