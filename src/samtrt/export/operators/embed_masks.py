"""SamtrtEmbedMasks: the image plus each prompt's mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samtrt.export.operators.gelu import SamtrtGelu
from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtEmbedMasks(
    image: FLOAT,
    masks: FLOAT,
    has_mask: FLOAT,
    first: FLOAT,
    first_bias: FLOAT,
    first_norm_weight: FLOAT,
    first_norm_bias: FLOAT,
    second: FLOAT,
    second_bias: FLOAT,
    second_norm_weight: FLOAT,
    second_norm_bias: FLOAT,
    third: FLOAT,
    third_bias: FLOAT,
    no_mask: FLOAT,
    side: int,
    epsilon: float,
) -> FLOAT:
    """`ImageKernels.embed_masks`: [1, HW, 256], [P, 1, 4 * side, 4 * side], [P] to [P, HW, 256].

    The image may be another one for each prompt, [P, HW, 256].

    The weights are those of `MaskWeights`.
    """
    one, two = op.Constant(value_ints=[1]), op.Constant(value_ints=[2])
    four, sixteen = op.Constant(value_ints=[4]), op.Constant(value_ints=[16])
    rest, zero = op.Constant(value_ints=[-1]), op.Constant(value_float=0.0)
    sides = op.Reshape(side, one)
    # (y, x) of the embedding, then (dy, dx) of the second and of the first convolution.
    apart = op.Reshape(masks, op.Concat(rest, sides, two, two, sides, two, two, axis=0))
    moved = op.Transpose(apart, perm=[0, 1, 4, 2, 5, 3, 6])
    cells = op.Mul(sides, sides)
    pixels = op.Reshape(moved, op.Concat(rest, op.Mul(cells, four), four, axis=0))
    first_sum = op.Add(op.MatMul(pixels, op.Transpose(first, perm=[1, 0])), first_bias)
    first_layer_norm = op.LayerNormalization(
        first_sum, first_norm_weight, first_norm_bias, axis=-1, epsilon=epsilon
    )
    parts = op.Reshape(SamtrtGelu(first_layer_norm), op.Concat(rest, cells, sixteen, axis=0))
    second_sum = op.Add(op.MatMul(parts, op.Transpose(second, perm=[1, 0])), second_bias)
    second_layer_norm = op.LayerNormalization(
        second_sum, second_norm_weight, second_norm_bias, axis=-1, epsilon=epsilon
    )
    hidden = SamtrtGelu(second_layer_norm)
    embedded = op.Add(op.MatMul(hidden, op.Transpose(third, perm=[1, 0])), third_bias)
    has = op.Greater(op.Reshape(has_mask, op.Concat(rest, one, one, axis=0)), zero)
    out = op.Add(image, op.Where(has, embedded, no_mask))
    return out


def _compute(image: Tensor, masks: Tensor, has_mask: Tensor, *rest: Any) -> Tensor:
    from samtrt.models.image_kernels import MaskWeights, PlainKernels

    *weights, _side, _epsilon = rest
    return PlainKernels().embed_masks(image, masks, has_mask, MaskWeights(*weights))


def _shape(image: Tensor, masks: Tensor, *_: object) -> Tensor:
    return image.new_empty(masks.shape[0], *image.shape[1:])


EMBED_MASKS = Operator(
    SamtrtEmbedMasks,
    _compute,
    _shape,
    float32={value.name for value in SamtrtEmbedMasks.function_ir.inputs if value.name != "image"},
)
