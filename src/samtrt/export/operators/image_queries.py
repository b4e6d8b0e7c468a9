"""SamtrtImageQueries: what the decoder's tokens ask of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtImageQueries(
    tokens: FLOAT, token_pe: FLOAT, query: FLOAT, bias: FLOAT, key: FLOAT, wanted: int
) -> FLOAT:
    """The queries of `ImageKernels.tokens_to_image`: [P, T, 256] twice to [P, 8 T, 256].

    query [128, 256] and bias [128] are the queries' projection, scaled; key [8, 256, 16] that of
    the image's side by head, transposed. wanted is how many of the tokens ask, 0 for all.
    """
    zero, one = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    number = op.Reshape(wanted, one)
    all_of_them = op.Constant(value_ints=[9223372036854775807])
    end = op.Where(op.Greater(number, zero), number, all_of_them)
    placed = op.Slice(op.Add(tokens, token_pe), zero, end, one)
    projected = op.Add(op.MatMul(placed, op.Transpose(query, perm=[1, 0])), bias)
    apart = op.Reshape(projected, op.Constant(value_ints=[0, 0, 8, -1]))
    heads = op.Transpose(apart, perm=[0, 2, 1, 3])
    expanded = op.MatMul(heads, op.Transpose(key, perm=[0, 2, 1]))
    out = op.Reshape(expanded, op.Constant(value_ints=[0, -1, 256]))
    return out


def _compute(
    tokens: Tensor, token_pe: Tensor, query: Tensor, bias: Tensor, key: Tensor, wanted: int
) -> Tensor:
    import torch.nn.functional as F

    placed = (tokens + token_pe)[:, : wanted or None]
    heads = F.linear(placed, query, bias).reshape(*placed.shape[:2], 8, -1).transpose(1, 2)
    return (heads @ key.transpose(1, 2)).flatten(1, 2)


def _shape(tokens: Tensor, *rest: int) -> Tensor:
    return tokens.new_empty(tokens.shape[0], 8 * (rest[-1] or tokens.shape[1]), tokens.shape[2])


IMAGE_QUERIES = Operator(SamtrtImageQueries, _compute, _shape, float32={"bias"})
