"""SamtrtImageToTokens: the image attends to the decoder's tokens, plus itself, normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtImageToTokens(
    image: FLOAT,
    image_pe: FLOAT,
    keys: FLOAT,
    offsets: FLOAT,
    values: FLOAT,
    weight: FLOAT,
    bias: FLOAT,
    num_heads: int,
    epsilon: float,
) -> FLOAT:
    """`ImageKernels.image_to_tokens`: [P, HW, 256] and so on to [P, HW, 256]."""
    none, one = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    rest = op.Constant(value_ints=[-1])
    heads = op.Reshape(num_heads, one)
    queries = op.Add(image, image_pe)
    products = op.MatMul(queries, op.Transpose(keys, perm=[0, 2, 1]))
    scores = op.Add(products, op.Unsqueeze(offsets, one))
    apart = op.Reshape(scores, op.Concat(none, none, heads, rest, axis=0))
    by_head = op.Softmax(apart, axis=-1)
    weights = op.Reshape(by_head, op.Concat(none, none, rest, axis=0))
    total = op.Add(image, op.MatMul(weights, values))
    out = op.LayerNormalization(total, weight, bias, axis=-1, epsilon=epsilon)
    return out


def _compute(
    image: Tensor,
    image_pe: Tensor,
    keys: Tensor,
    offsets: Tensor,
    values: Tensor,
    weight: Tensor,
    bias: Tensor,
    _num_heads: int,
    epsilon: float,
) -> Tensor:
    import torch.nn.functional as F

    from samtrt.models.image_kernels import Image, PlainKernels

    def norm(rows: Tensor) -> Tensor:
        return F.layer_norm(rows, weight.shape, weight, bias, epsilon)

    placed = Image(image, image_pe, image + image_pe)
    return PlainKernels().image_to_tokens(placed, keys, offsets, values, norm)


def _shape(image: Tensor, *_: object) -> Tensor:
    return image.new_empty(image.shape)


IMAGE_TO_TOKENS = Operator(SamtrtImageToTokens, _compute, _shape, float32={"weight", "bias"})
