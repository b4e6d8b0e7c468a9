"""SamtrtTokenHeads: predicted IoUs and the masks' weights, of the first five tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samtrt.export.operators.operator import FLOAT, Operator, biases_and_norms, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtTokenHeads(
    tokens: FLOAT,
    mixed: FLOAT,
    value: FLOAT,
    value_bias: FLOAT,
    out: FLOAT,
    out_bias: FLOAT,
    norm_weight: FLOAT,
    norm_bias: FLOAT,
    first: FLOAT,
    first_bias: FLOAT,
    second: FLOAT,
    second_bias: FLOAT,
    last: FLOAT,
    last_bias: FLOAT,
    epsilon: float,
) -> tuple[FLOAT, FLOAT]:
    """The end of the decoder: [P, T, 256] to the masks' weights [P, 4, 32] and IoUs [P, 4].

    mixed [P, 40, 256] is what the first five tokens got of the image; value [128, 256] and out
    [256, 128] are the other half of that attention. first and second [5, 256, 256] and last
    [5, 32, 256] are the five's MLPs: the IoU's, of whose last 4 outputs are used, and the masks'.
    """
    apart = op.Constant(value_ints=[0, 8, -1, 256])
    by_head = op.Constant(value_ints=[8, -1, 256])
    values = op.Transpose(op.Reshape(value, by_head), perm=[0, 2, 1])
    heads = op.Transpose(op.MatMul(op.Reshape(mixed, apart), values), perm=[0, 2, 1, 3])
    rows = op.Add(op.Reshape(heads, op.Constant(value_ints=[0, 0, -1])), value_bias)
    attended = op.Add(op.MatMul(rows, op.Transpose(out, perm=[1, 0])), out_bias)
    zero, one = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    four, five = op.Constant(value_ints=[4]), op.Constant(value_ints=[5])
    total = op.Add(op.Slice(tokens, zero, five, one), attended)
    normed = op.LayerNormalization(total, norm_weight, norm_bias, axis=-1, epsilon=epsilon)
    x = op.Transpose(normed, perm=[1, 0, 2])
    weight1 = op.Transpose(first, perm=[0, 2, 1])
    hidden1 = op.Relu(op.Add(op.MatMul(x, weight1), op.Unsqueeze(first_bias, one)))
    weight2 = op.Transpose(second, perm=[0, 2, 1])
    hidden2 = op.Relu(op.Add(op.MatMul(hidden1, weight2), op.Unsqueeze(second_bias, one)))
    weight3 = op.Transpose(last, perm=[0, 2, 1])
    outputs = op.Add(op.MatMul(hidden2, weight3), op.Unsqueeze(last_bias, one))
    hyper = op.Transpose(op.Slice(outputs, one, five, zero), perm=[1, 0, 2])
    of_first = op.Squeeze(op.Slice(outputs, zero, one, zero), zero)
    iou = op.Slice(of_first, zero, four, one)
    return hyper, iou


def _compute(tokens: Tensor, mixed: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    import torch
    import torch.nn.functional as F

    from samtrt.export.operators.token_mlp import attend

    *attention, norm_weight, norm_bias = rest[:6]
    *layers, epsilon = rest[6:]
    total = tokens[:, :5] + attend(mixed, *attention)
    x = F.layer_norm(total, norm_weight.shape, norm_weight, norm_bias, epsilon).transpose(0, 1)
    for weight, bias in zip(layers[:4:2], layers[1:4:2], strict=True):
        x = F.relu(x @ weight.transpose(1, 2) + bias.unsqueeze(1))
    outputs = x @ layers[4].transpose(1, 2) + layers[5].unsqueeze(1)
    one_layout = torch.contiguous_format  # and memory of their own, as custom operators must give
    iou = outputs[0, :, :4].clone(memory_format=one_layout)
    return outputs[1:].transpose(0, 1).clone(memory_format=one_layout), iou


def _shape(tokens: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    from samtrt.models.image_kernels import NUM_MASKS

    prompts, _count, width = tokens.shape
    return tokens.new_empty(prompts, NUM_MASKS, width // 8), tokens.new_empty(prompts, NUM_MASKS)


TOKEN_HEADS = Operator(
    SamtrtTokenHeads,
    _compute,
    _shape,
    float32={"iou", *biases_and_norms(SamtrtTokenHeads)},
)
