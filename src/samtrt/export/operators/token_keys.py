"""SamtrtTokenKeys: what the image is to attend to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtTokenKeys(
    tokens: FLOAT,
    token_pe: FLOAT,
    key: FLOAT,
    key_bias: FLOAT,
    query: FLOAT,
    query_bias: FLOAT,
    value: FLOAT,
    value_bias: FLOAT,
    out: FLOAT,
    out_bias: FLOAT,
) -> tuple[FLOAT, FLOAT, FLOAT]:
    """Keys, offsets and values of `ImageKernels.image_to_tokens`, of [P, T, 256] twice.

    key and value [128, 256] are the tokens' projections, the former scaled; query and out
    [8, 256, 16] those of the image's side, by head: the queries' transposed, the output layer's
    columns.
    """
    apart = op.Constant(value_ints=[0, 0, 8, -1])
    rows = op.Constant(value_ints=[0, -1, 256])
    placed = op.Add(tokens, token_pe)
    key_rows = op.Add(op.MatMul(placed, op.Transpose(key, perm=[1, 0])), key_bias)
    key_heads = op.Transpose(op.Reshape(key_rows, apart), perm=[0, 2, 1, 3])
    key_out = op.MatMul(key_heads, op.Transpose(query, perm=[0, 2, 1]))
    keys = op.Reshape(key_out, rows)
    bias_heads = op.Reshape(query_bias, op.Constant(value_ints=[8, -1, 1]))
    offsets = op.Reshape(op.MatMul(key_heads, bias_heads), op.Constant(value_ints=[0, -1]))
    value_rows = op.Add(op.MatMul(tokens, op.Transpose(value, perm=[1, 0])), value_bias)
    value_heads = op.Transpose(op.Reshape(value_rows, apart), perm=[0, 2, 1, 3])
    value_out = op.MatMul(value_heads, op.Transpose(out, perm=[0, 2, 1]))
    share = op.Div(out_bias, op.Constant(value_float=8.0))
    values = op.Reshape(op.Add(value_out, share), rows)
    return keys, offsets, values


def _compute(
    tokens: Tensor,
    token_pe: Tensor,
    key: Tensor,
    key_bias: Tensor,
    query: Tensor,
    query_bias: Tensor,
    value: Tensor,
    value_bias: Tensor,
    out: Tensor,
    out_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    import torch.nn.functional as F

    def heads(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(rows, weight, bias).reshape(*rows.shape[:2], 8, -1).transpose(1, 2)

    key_heads = heads(tokens + token_pe, key, key_bias)
    offsets = (key_heads @ query_bias.reshape(8, -1, 1)).flatten(1)
    values = heads(tokens, value, value_bias) @ out.transpose(1, 2) + out_bias / 8
    return (key_heads @ query.transpose(1, 2)).flatten(1, 2), offsets, values.flatten(1, 2)


def _shape(tokens: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    prompts, count, width = tokens.shape
    keys = tokens.new_empty(prompts, 8 * count, width)
    return keys, tokens.new_empty(prompts, 8 * count), keys.new_empty(keys.shape)


TOKEN_KEYS = Operator(
    SamtrtTokenKeys,
    _compute,
    _shape,
    float32={"key_bias", "query_bias", "value_bias", "out_bias"},
)
