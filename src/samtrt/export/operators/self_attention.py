"""SamtrtSelfAttention: a prompt's tokens attend to one another; sum and norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtSelfAttention(
    tokens: FLOAT,
    token_pe: FLOAT,
    qkv: FLOAT,
    qkv_bias: FLOAT,
    out: FLOAT,
    out_bias: FLOAT,
    norm_weight: FLOAT,
    norm_bias: FLOAT,
    is_first: int,
    epsilon: float,
) -> FLOAT:
    """Self attention and first norm of `TwoWayAttentionBlock`: [P, T, 256] twice to [P, T, 256].

    qkv [768, 256] are the projections of queries (scaled), keys and values, qkv_bias [768] theirs.
    is_first is 1 where neither positions nor the tokens are added.
    """
    first = op.Greater(is_first, op.Constant(value_int=0))
    zero = op.Constant(value_float=0.0)
    placed = op.Add(tokens, op.Where(first, zero, token_pe))
    split = op.Constant(value_ints=[512, 256])
    pair, value = op.Split(qkv, split, axis=0)
    pair_bias, value_bias = op.Split(qkv_bias, split, axis=0)
    projected = op.Add(op.MatMul(placed, op.Transpose(pair, perm=[1, 0])), pair_bias)
    values = op.Add(op.MatMul(tokens, op.Transpose(value, perm=[1, 0])), value_bias)
    queries, keys = op.Split(projected, op.Constant(value_ints=[256, 256]), axis=2)
    by_head = op.Constant(value_ints=[0, 0, 8, -1])
    q = op.Transpose(op.Reshape(queries, by_head), perm=[0, 2, 1, 3])
    k = op.Transpose(op.Reshape(keys, by_head), perm=[0, 2, 3, 1])
    v = op.Transpose(op.Reshape(values, by_head), perm=[0, 2, 1, 3])
    mixed = op.MatMul(op.Softmax(op.MatMul(q, k), axis=-1), v)
    together = op.Constant(value_ints=[0, 0, -1])
    rows = op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), together)
    attended = op.Add(op.MatMul(rows, op.Transpose(out, perm=[1, 0])), out_bias)
    total = op.Add(op.Where(first, zero, tokens), attended)
    result = op.LayerNormalization(total, norm_weight, norm_bias, axis=-1, epsilon=epsilon)
    return result


def _compute(
    tokens: Tensor,
    token_pe: Tensor,
    qkv: Tensor,
    qkv_bias: Tensor,
    out: Tensor,
    out_bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    is_first: int,
    epsilon: float,
) -> Tensor:
    import torch.nn.functional as F

    placed = tokens if is_first else tokens + token_pe
    projected = [
        F.linear(rows, weight, bias).reshape(*rows.shape[:2], 8, -1).transpose(1, 2)
        for rows, weight, bias in zip(
            (placed, placed, tokens), qkv.chunk(3), qkv_bias.chunk(3), strict=True
        )
    ]
    q, k, v = projected
    mixed = (q @ k.transpose(2, 3)).softmax(dim=-1) @ v
    attended = F.linear(mixed.transpose(1, 2).flatten(2), out, out_bias)
    total = attended if is_first else tokens + attended
    return F.layer_norm(total, norm_weight.shape, norm_weight, norm_bias, epsilon)


def _shape(tokens: Tensor, *_: object) -> Tensor:
    return tokens.new_empty(tokens.shape)


SELF_ATTENTION = Operator(
    SamtrtSelfAttention,
    _compute,
    _shape,
    float32={"qkv_bias", "out_bias", "norm_weight", "norm_bias"},
)
