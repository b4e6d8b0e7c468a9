"""What of the mask decoder runs over the whole image, in the TensorRT plugin's operators.

Each is one pass over the image, whose scores and wide intermediate results are never in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samtrt.errors import MissingExtraError

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("Exporting", "export", error.name or "torch") from None

from samtrt.export.operators.functions import (
    EMBED_MASKS,
    IMAGE_TO_TOKENS,
    TOKENS_TO_IMAGE,
    UPSCALE_MASKS,
)
from samtrt.export.operators.graph import PLUGIN_ATTRIBUTES
from samtrt.export.operators.operator import FLOAT, INT, declare_operator
from samtrt.models.image_kernels import (
    MASK_EPSILON,
    NUM_HEADS,
    NUM_MASKS,
    Image,
    MaskWeights,
    PlainKernels,
    quadruple_weight,
    upscale_rows,
)
from samtrt.models.layers import LayerNorm

_PLAIN = PlainKernels()


def _norm(weight: Tensor, bias: Tensor, epsilon: float) -> Callable[[Tensor], Tensor]:
    return lambda rows: F.layer_norm(rows, weight.shape, weight, bias, epsilon)


@torch.library.custom_op("samtrt::embed_masks", mutates_args=())
def embed_masks(
    image: Tensor,
    masks: Tensor,
    has_mask: Tensor,
    weights: list[Tensor],
    _side: int,
    _epsilon: float,
) -> Tensor:
    """`ImageKernels.embed_masks`: [1, HW, 256], [P, 1, 4 * side, 4 * side], [P] to [P, HW, 256]."""
    return _PLAIN.embed_masks(image, masks, has_mask, MaskWeights(*weights))


embed_masks.register_fake(
    lambda image, masks, *_: image.new_empty(masks.shape[0], *image.shape[1:])
)


@torch.library.custom_op("samtrt::tokens_to_image", mutates_args=())
def tokens_to_image(queries: Tensor, image: Tensor, image_pe: Tensor) -> Tensor:
    """`ImageKernels.tokens_to_image`: [P, R, 256], [P, HW, 256], [1, HW, 256] to [P, R, 256]."""
    return _PLAIN.tokens_to_image(queries, Image(image, image_pe, image + image_pe))


tokens_to_image.register_fake(lambda queries, *_: queries.new_empty(queries.shape))


@torch.library.custom_op("samtrt::image_to_tokens", mutates_args=())
def image_to_tokens(
    image: Tensor,
    image_pe: Tensor,
    keys: Tensor,
    offsets: Tensor,
    values: Tensor,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
) -> Tensor:
    """`ImageKernels.image_to_tokens`: [P, HW, 256] and so on to [P, HW, 256]."""
    placed = Image(image, image_pe, image + image_pe)
    return _PLAIN.image_to_tokens(placed, keys, offsets, values, _norm(weight, bias, epsilon))


image_to_tokens.register_fake(lambda image, *_: image.new_empty(image.shape))


@torch.library.custom_op("samtrt::upscale_masks", mutates_args=())
def upscale_masks(
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
    """`ImageKernels.upscale`: [P, HW, 256] and [P, 4, 32] to [P, 4, 4 * side, 4 * side]."""
    norm = _norm(norm_weight, norm_bias, epsilon)
    return upscale_rows(image, hyper, first, first_bias, second, second_bias, norm, side)


upscale_masks.register_fake(
    lambda image, *rest: image.new_empty(image.shape[0], NUM_MASKS, 4 * rest[-2], 4 * rest[-2])
)


_EMBED_MASKS_NODE = declare_operator(
    EMBED_MASKS,
    f"image masks has_mask {' '.join(MaskWeights._fields)}",
    "out",
    side=INT,
    epsilon=FLOAT,
)
_TOKENS_TO_IMAGE_NODE = declare_operator(TOKENS_TO_IMAGE, "queries image image_pe", "out")
_IMAGE_TO_TOKENS_NODE = declare_operator(
    IMAGE_TO_TOKENS,
    "image image_pe keys offsets values weight bias",
    "out",
    num_heads=INT,
    epsilon=FLOAT,
)
_UPSCALE_MASKS_NODE = declare_operator(
    UPSCALE_MASKS,
    "image hyper first first_bias norm_weight norm_bias second second_bias",
    "masks",
    side=INT,
    epsilon=FLOAT,
)


def _write_embed_masks(
    image: Any, masks: Any, has_mask: Any, weights: Any, side: int, epsilon: float
) -> Any:
    attributes = {"side": side, "epsilon": epsilon, **PLUGIN_ATTRIBUTES}
    return _EMBED_MASKS_NODE(image, masks, has_mask, *weights, **attributes)


def _write_tokens_to_image(queries: Any, image: Any, image_pe: Any) -> Any:
    return _TOKENS_TO_IMAGE_NODE(queries, image, image_pe, **PLUGIN_ATTRIBUTES)


def _write_image_to_tokens(
    image: Any,
    image_pe: Any,
    keys: Any,
    offsets: Any,
    values: Any,
    weight: Any,
    bias: Any,
    epsilon: float,
) -> Any:
    attributes = {"num_heads": NUM_HEADS, "epsilon": epsilon, **PLUGIN_ATTRIBUTES}
    inputs = (image, image_pe, keys, offsets, values, weight, bias)
    return _IMAGE_TO_TOKENS_NODE(*inputs, **attributes)


def _write_upscale_masks(
    image: Any,
    hyper: Any,
    first: Any,
    first_bias: Any,
    norm_weight: Any,
    norm_bias: Any,
    second: Any,
    second_bias: Any,
    side: int,
    epsilon: float,
) -> Any:
    inputs = (image, hyper, first, first_bias, norm_weight, norm_bias, second, second_bias)
    return _UPSCALE_MASKS_NODE(*inputs, side=side, epsilon=epsilon, **PLUGIN_ATTRIBUTES)


DECODER_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.samtrt.embed_masks.default: _write_embed_masks,
    torch.ops.samtrt.tokens_to_image.default: _write_tokens_to_image,
    torch.ops.samtrt.image_to_tokens.default: _write_image_to_tokens,
    torch.ops.samtrt.upscale_masks.default: _write_upscale_masks,
}
"""How PyTorch's exporter writes the operators."""


class FusedKernels:
    """`ImageKernels` in the plugin's operators."""

    def embed_masks(
        self, image: Tensor, masks: Tensor, has_mask: Tensor, weights: MaskWeights
    ) -> Tensor:
        side = masks.shape[-1] // 4
        out: Tensor = embed_masks(image, masks, has_mask, list(weights), side, MASK_EPSILON)
        return out

    def tokens_to_image(self, queries: Tensor, image: Image) -> Tensor:
        out: Tensor = tokens_to_image(queries, image.rows, image.pe)
        return out

    def image_to_tokens(
        self, image: Image, keys: Tensor, offsets: Tensor, values: Tensor, norm: LayerNorm
    ) -> Tensor:
        tensors = (image.rows, image.pe, keys, offsets, values, norm.weight, norm.bias)
        out: Tensor = image_to_tokens(*tensors, norm.eps)
        return out

    def upscale(self, image: Tensor, weights: Tensor, layers: nn.Sequential, side: int) -> Tensor:
        first, norm, _, second, _ = list[Any](layers)
        masks: Tensor = upscale_masks(
            image,
            weights,
            quadruple_weight(first),
            first.bias,
            norm.weight,
            norm.bias,
            quadruple_weight(second),
            second.bias,
            side,
            norm.eps,
        )
        return masks
