"""SamtrtUpscaleMasks: low-res logits of the image, by two transposed convolutions and a product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.gelu import SamtrtGelu
from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtUpscaleMasks(
    image: FLOAT,
    hyper: FLOAT,
    first: FLOAT,
    first_bias: FLOAT,
    norm_weight: FLOAT,
    norm_bias: FLOAT,
    second: FLOAT,
    second_bias: FLOAT,
    side: int,
    epsilon: float,
) -> FLOAT:
    """`ImageKernels.upscale`: [P, HW, 256] and [P, 4, 32] to [P, 4, 4 * side, 4 * side]."""
    none, one = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    two, four = op.Constant(value_ints=[2]), op.Constant(value_ints=[4])
    rest = op.Constant(value_ints=[-1])
    sides = op.Reshape(side, one)
    # Rows are (y, x) of the embedding, then (dy, dx) of each convolution.
    first_product = op.MatMul(image, op.Transpose(first, perm=[1, 0]))
    first_shape = op.Concat(none, rest, op.Shape(first_bias), axis=0)
    first_sum = op.Add(op.Reshape(first_product, first_shape), first_bias)
    layer_norm = op.LayerNormalization(first_sum, norm_weight, norm_bias, axis=-1, epsilon=epsilon)
    first_out = SamtrtGelu(layer_norm)
    second_product = op.MatMul(first_out, op.Transpose(second, perm=[1, 0]))
    second_shape = op.Concat(none, rest, op.Shape(second_bias), axis=0)
    second_out = SamtrtGelu(op.Add(op.Reshape(second_product, second_shape), second_bias))
    products = op.MatMul(hyper, op.Transpose(second_out, perm=[0, 2, 1]))
    apart = op.Reshape(products, op.Concat(rest, four, sides, sides, two, two, two, two, axis=0))
    moved = op.Transpose(apart, perm=[0, 1, 2, 4, 6, 3, 5, 7])
    large = op.Mul(sides, four)
    masks = op.Reshape(moved, op.Concat(rest, four, large, large, axis=0))
    return masks


def _compute(
    image: Tensor,
    hyper: Tensor,
    first: Tensor,
    first_bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
    side: int,
    epsilon: float,
) -> Tensor:
    import torch.nn.functional as F

    from samtrt.models.image_kernels import upscale_rows

    def norm(rows: Tensor) -> Tensor:
        return F.layer_norm(rows, norm_weight.shape, norm_weight, norm_bias, epsilon)

    return upscale_rows(image, hyper, first, first_bias, second, second_bias, norm, side)


def _shape(image: Tensor, *rest: int) -> Tensor:
    from samtrt.models.image_kernels import NUM_MASKS

    side = rest[-2]
    return image.new_empty(image.shape[0], NUM_MASKS, 4 * side, 4 * side)


UPSCALE_MASKS = Operator(
    SamtrtUpscaleMasks,
    _compute,
    _shape,
    float32={"first_bias", "norm_weight", "norm_bias", "second_bias", "masks"},
)
