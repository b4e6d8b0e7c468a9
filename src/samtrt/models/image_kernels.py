"""What of prompt encoder and mask decoder runs over the whole image, behind one interface.

The image is one row of channels for each cell of the embedding. `PlainKernels` is the reference;
`samtrt.export.plugin` has the same as operators of a TensorRT plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_HEADS = 8
NUM_MASKS = 4  # one for an unambiguous prompt, three for whole, part and subpart


class MaskWeights(NamedTuple):
    """`mask_downscaling` and `no_mask_embed` of the prompt encoder, as linear layers on cells.

    Attributes:
        first: [4, 4], the second over the (dy, dx) of 2 x 2 pixels.
        first_bias: [4], as are the norm's.
        second: [16, 16], the second over the (dy, dx) of 2 x 2 places and their 4 channels.
        second_bias: [16], as are the norm's.
        third: [C, 16].
        third_bias: [C].
        no_mask: [C].
    """

    first: Tensor
    first_bias: Tensor
    first_norm_weight: Tensor
    first_norm_bias: Tensor
    second: Tensor
    second_bias: Tensor
    second_norm_weight: Tensor
    second_norm_bias: Tensor
    third: Tensor
    third_bias: Tensor
    no_mask: Tensor

    @classmethod
    def of(cls, downscaling: nn.Sequential, no_mask: Tensor) -> MaskWeights:
        """Take them from the prompt encoder's layers and its no_mask [C]."""
        layers: Any = list(downscaling)  # list[Any](...) would break torch.compile's graph
        first, norm1, _, second, norm2, _, third = layers
        return cls(
            *(first.weight.flatten(1), first.bias, norm1.weight, norm1.bias),
            *(second.weight.permute(0, 2, 3, 1).flatten(1), second.bias),
            *(norm2.weight, norm2.bias, third.weight.flatten(1), third.bias, no_mask),
        )


MASK_EPSILON = 1e-6
"""Of both norms of `MaskWeights`, as of every LayerNorm2d."""


class Image(NamedTuple):
    """The image's cells as rows, and where they are.

    Attributes:
        rows: [P, HW, C].
        pe: Positional encoding, [1, HW, C].
        keys: rows + pe.
    """

    rows: Tensor
    pe: Tensor
    keys: Tensor


class ImageKernels(Protocol):
    """What of the decoder runs over the whole image; the rest is about a few tokens."""

    def embed_masks(
        self, image: Tensor, masks: Tensor, has_mask: Tensor, weights: MaskWeights
    ) -> Tensor:
        """Add each prompt's mask to the image: [P, HW, C].

        Args:
            image: [1, HW, C], or [P, HW, C] where each prompt has its own.
            masks: Low-res logits [P, 1, 4 H, 4 W].
            has_mask: [P], 1 where a prompt has a mask.
            weights: Of the prompt encoder.
        """
        ...

    def tokens_to_image(self, queries: Tensor, image: Image) -> Tensor:
        """Attend from queries [P, R, C] to the image: softmax(queries keys^T) rows, [P, R, C]."""
        ...

    def image_to_tokens(
        self, image: Image, keys: Tensor, offsets: Tensor, values: Tensor, norm: nn.LayerNorm
    ) -> Tensor:
        """Attend from the image to tokens, add, normalise: [P, HW, C].

        Args:
            image: Its keys are the queries here.
            keys: [P, heads * T, C].
            offsets: [P, heads * T], added to the scores; softmax is over each head's T.
            values: [P, heads * T, C].
            norm: Applied to rows + attended.
        """
        ...

    def upscale(self, image: Tensor, weights: Tensor, layers: nn.Sequential, side: int) -> Tensor:
        """Upscale [P, HW, C] by `layers` and take its products with weights [P, 4, C / 8].

        Returns:
            Low-res logits [P, 4, 4 * side, 4 * side].
        """
        ...


class PlainKernels:
    """`ImageKernels` in PyTorch's own operators."""

    def embed_masks(
        self, image: Tensor, masks: Tensor, has_mask: Tensor, weights: MaskWeights
    ) -> Tensor:
        return image + mask_rows(masks, has_mask, weights).to(image.dtype)

    def tokens_to_image(self, queries: Tensor, image: Image) -> Tensor:
        return (queries @ image.keys.transpose(-2, -1)).softmax(dim=-1) @ image.rows

    def image_to_tokens(
        self,
        image: Image,
        keys: Tensor,
        offsets: Tensor,
        values: Tensor,
        norm: Callable[[Tensor], Tensor],
    ) -> Tensor:
        scores = image.keys @ keys.transpose(-2, -1) + offsets.unsqueeze(1)
        by_head = scores.reshape(*scores.shape[:2], NUM_HEADS, -1)
        return norm(image.rows + by_head.softmax(dim=-1).flatten(2) @ values)

    def upscale(self, image: Tensor, weights: Tensor, layers: nn.Sequential, side: int) -> Tensor:
        modules: Any = list(layers)
        first, norm, _, second, _ = modules
        linear = quadruple_weight(first), first.bias, quadruple_weight(second), second.bias
        return upscale_rows(image, weights, *linear, norm.channels_last, side)


def mask_rows(masks: Tensor, has_mask: Tensor, weights: MaskWeights) -> Tensor:
    """Embed low-res logits [P, 1, 4 H, 4 W] where `has_mask` [P] is 1: [P, HW, C]."""
    height, width = masks.shape[2] // 4, masks.shape[3] // 4
    w = weights
    # (y, x) of the embedding, then (dy, dx) of the second and of the first convolution.
    cells = masks.reshape(-1, height, 2, 2, width, 2, 2).permute(0, 1, 4, 2, 5, 3, 6)
    rows = F.linear(cells.reshape(-1, 4 * height * width, 4), w.first, w.first_bias)
    rows = F.layer_norm(rows, (4,), w.first_norm_weight, w.first_norm_bias, MASK_EPSILON)
    rows = F.gelu(rows).reshape(-1, height * width, 16)
    rows = F.linear(rows, w.second, w.second_bias)
    rows = F.gelu(F.layer_norm(rows, (16,), w.second_norm_weight, w.second_norm_bias, MASK_EPSILON))
    # Choosing between 16 channels, and between two biases as factors, is cheaper than between C.
    has = (has_mask > 0).reshape(-1, 1, 1)
    rows = torch.where(has, rows, torch.zeros_like(rows))
    given = has.to(rows.dtype)
    either = torch.cat([given, 1 - given], dim=2).expand(-1, height * width, -1)
    weight = torch.cat([w.third, torch.stack([w.third_bias, w.no_mask], dim=1)], dim=1)
    return F.linear(torch.cat([rows, either], dim=2), weight)


def quadruple_weight(layer: Any) -> Tensor:
    """Return a transposed convolution of 2 x 2, stride 2, as a linear layer's weight [4 out, in].

    Its four outputs do not overlap: they are rows (dy, dx), then channels.
    """
    return layer.weight.permute(2, 3, 1, 0).flatten(0, 2)


def upscale_rows(
    image: Tensor,
    weights: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
    norm: Callable[[Tensor], Tensor],
    side: int,
    added: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Do what `ImageKernels.upscale` says, with the layers' own tensors.

    Args:
        image: [P, side * side, C].
        weights: [P, 4, C / 8].
        first: `quadruple_weight` [4 * C / 4, C].
        first_bias: [C / 4].
        second: [4 * C / 8, C / 4].
        second_bias: [C / 8].
        norm: Of the C / 4 channels after the first.
        side: Height and width of the embedding.
        added: What SAM 2 adds after each of the two, before norm and activation: rows
            [1, 4 * side * side, C / 4] and [1, 16 * side * side, C / 8].
    """
    middle, fine = added or (None, None)
    rows = _quadrupled(image, first, first_bias, middle)
    rows = F.gelu(norm(rows.reshape(image.shape[0], -1, len(first_bias))))
    rows = F.gelu(_quadrupled(rows, second, second_bias, fine))
    masks = weights @ rows.reshape(image.shape[0], -1, len(second_bias)).transpose(1, 2)
    # Rows are (y, x) of the embedding, then (dy, dx) of each upscaling.
    masks = masks.reshape(-1, NUM_MASKS, side, side, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return masks.reshape(-1, NUM_MASKS, 4 * side, 4 * side)


def _quadrupled(rows: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None) -> Tensor:
    """Make four rows of each [P, N, C], side by side, by a `quadruple_weight` and a bias.

    Args:
        rows: [P, N, C].
        weight: [4 * C', C].
        bias: [C'].
        added: Further rows to add, [1, 4 * N, C'].
    """
    if added is None:
        return F.linear(rows, weight, bias.repeat(4))
    # What is added is of the image alone, and so is its sum with the bias.
    return F.linear(rows, weight) + (added + bias).reshape(1, -1, 4 * len(bias))
