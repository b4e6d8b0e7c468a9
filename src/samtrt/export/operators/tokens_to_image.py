"""SamtrtTokensToImage: the decoder's tokens attend to the image; scores are never in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtTokensToImage(queries: FLOAT, image: FLOAT, image_pe: FLOAT) -> FLOAT:
    """`ImageKernels.tokens_to_image`: [P, R, 256], [P, HW, 256], [1, HW, 256] to [P, R, 256]."""
    keys_t = op.Transpose(op.Add(image, image_pe), perm=[0, 2, 1])
    weights = op.Softmax(op.MatMul(queries, keys_t), axis=-1)
    out = op.MatMul(weights, image)
    return out


def _compute(queries: Tensor, image: Tensor, image_pe: Tensor) -> Tensor:
    from samtrt.models.image_kernels import Image, PlainKernels

    return PlainKernels().tokens_to_image(queries, Image(image, image_pe, image + image_pe))


def _shape(queries: Tensor, *_: object) -> Tensor:
    return queries.new_empty(queries.shape)


TOKENS_TO_IMAGE = Operator(SamtrtTokensToImage, _compute, _shape)
