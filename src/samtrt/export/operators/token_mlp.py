"""SamtrtTokenMlp: what a layer does with tokens that have attended to the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samtrt.export.operators.operator import FLOAT, Operator, biases_and_norms, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtTokenMlp(
    tokens: FLOAT,
    mixed: FLOAT,
    value: FLOAT,
    value_bias: FLOAT,
    out: FLOAT,
    out_bias: FLOAT,
    norm2_weight: FLOAT,
    norm2_bias: FLOAT,
    lin1: FLOAT,
    lin1_bias: FLOAT,
    lin2: FLOAT,
    lin2_bias: FLOAT,
    norm3_weight: FLOAT,
    norm3_bias: FLOAT,
    epsilon: float,
) -> FLOAT:
    """Second and third norm of `TwoWayAttentionBlock`, and what is before them: to [P, T, 256].

    tokens [P, T, 256]; mixed [P, 8 T, 256] is what they got of the image; value [128, 256] and out
    [256, 128] are the other half of that attention; lin1 [2048, 256] and lin2 [256, 2048] the MLP.
    """
    apart = op.Constant(value_ints=[0, 8, -1, 256])
    by_head = op.Constant(value_ints=[8, -1, 256])
    values = op.Transpose(op.Reshape(value, by_head), perm=[0, 2, 1])
    heads = op.Transpose(op.MatMul(op.Reshape(mixed, apart), values), perm=[0, 2, 1, 3])
    rows = op.Add(op.Reshape(heads, op.Constant(value_ints=[0, 0, -1])), value_bias)
    attended = op.Add(op.MatMul(rows, op.Transpose(out, perm=[1, 0])), out_bias)
    total = op.Add(tokens, attended)
    x = op.LayerNormalization(total, norm2_weight, norm2_bias, axis=-1, epsilon=epsilon)
    hidden = op.Relu(op.Add(op.MatMul(x, op.Transpose(lin1, perm=[1, 0])), lin1_bias))
    change = op.Add(op.MatMul(hidden, op.Transpose(lin2, perm=[1, 0])), lin2_bias)
    last = op.Add(x, change)
    result = op.LayerNormalization(last, norm3_weight, norm3_bias, axis=-1, epsilon=epsilon)
    return result


def attend(mixed: Tensor, value: Tensor, bias: Tensor, out: Tensor, out_bias: Tensor) -> Tensor:
    """Finish attention to the image: mixed [P, 8 T, 256] by heads to [P, T, 256]."""
    import torch.nn.functional as F

    prompts, _, width = mixed.shape
    values = value.reshape(8, -1, width).transpose(1, 2)
    heads = mixed.reshape(prompts, 8, -1, width) @ values
    return F.linear(heads.transpose(1, 2).flatten(2) + bias, out, out_bias)


def _compute(tokens: Tensor, mixed: Tensor, *rest: Any) -> Tensor:
    import torch.nn.functional as F

    *attention, norm2_weight, norm2_bias = rest[:6]
    lin1, lin1_bias, lin2, lin2_bias, norm3_weight, norm3_bias, epsilon = rest[6:]
    total = tokens + attend(mixed, *attention)
    x = F.layer_norm(total, norm2_weight.shape, norm2_weight, norm2_bias, epsilon)
    change = F.linear(F.relu(F.linear(x, lin1, lin1_bias)), lin2, lin2_bias)
    return F.layer_norm(x + change, norm3_weight.shape, norm3_weight, norm3_bias, epsilon)


def _shape(tokens: Tensor, *_: object) -> Tensor:
    return tokens.new_empty(tokens.shape)


TOKEN_MLP = Operator(
    SamtrtTokenMlp,
    _compute,
    _shape,
    float32=biases_and_norms(SamtrtTokenMlp),
)
