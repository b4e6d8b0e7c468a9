"""The graphs as TensorRT's plugin runs them: both stages of a model in operators of our own.

The image encoder becomes 1x1 convolutions around six operators. TensorRT takes convolutions one by
one, with its fastest kernels, where it makes one slow region of matrix products and attention.
Channels come first here and lie last in TensorRT's memory, so that nothing is ever moved: windows
are cut inside the attention operator.

Of the mask decoder, what runs over the whole image becomes four operators, each of them one pass
over the image, whose scores and wide intermediate results are never in memory; for its tokens see
`plugin_decoder`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samtrt.errors import MissingExtraError

try:
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("Exporting", "export", error.name or "torch") from None

from samtrt.export.operators.add_layer_norm import ADD_LAYER_NORM
from samtrt.export.operators.embed_masks import EMBED_MASKS
from samtrt.export.operators.image_to_tokens import IMAGE_TO_TOKENS
from samtrt.export.operators.layer_norm import LAYER_NORM
from samtrt.export.operators.linear_gelu import LINEAR_GELU
from samtrt.export.operators.memory_attention import MEMORY_ATTENTION
from samtrt.export.operators.patches import PATCHES
from samtrt.export.operators.place_layer_norm import PLACE_LAYER_NORM
from samtrt.export.operators.registry import OPERATORS
from samtrt.export.operators.rel_pos_attention import REL_POS_ATTENTION
from samtrt.export.operators.tokens_to_image import TOKENS_TO_IMAGE
from samtrt.export.operators.upscale_masks import UPSCALE_MASKS
from samtrt.models.image_kernels import (
    MASK_EPSILON,
    NUM_HEADS,
    Image,
    MaskWeights,
    quadruple_weight,
)
from samtrt.models.memory import MemoryAttentionLayer
from samtrt.models.vit import Attention, ImageEncoderViT


def plugin_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return how PyTorch's exporter writes the operators."""
    return {operator.custom_op._opoverload: operator.writer for operator in OPERATORS.values()}


class PluginEncoder(nn.Module):
    """`ImageEncoderViT` in the plugin's operators: the same input, output and numbers.

    The weights are the same too, but for the last block's second layer.
    """

    def __init__(self, encoder: ImageEncoderViT) -> None:
        super().__init__()
        self.patch_embed = _patch_embedding(encoder.patch_embed.proj)
        self.pos_embed = constant(encoder.pos_embed[0])
        blocks = [_Block(block) for block in encoder.blocks]
        self.blocks = nn.ModuleList(blocks)
        self.early_index = encoder.early_index
        narrow, *rest = list(encoder.neck)
        self.narrow = narrow
        self.neck = nn.Sequential(
            *(layer if isinstance(layer, nn.Conv2d) else PluginNorm(layer) for layer in rest)
        )
        # What the last block adds goes to the neck alone: its layer and the neck's first are one of
        # a third of the work, or less.
        self.is_joined = self.early_index < len(blocks) - 1
        if self.is_joined:
            blocks[-1].lin2 = _joined(blocks[-1].lin2, narrow)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, 3, S, S] to [B, 256, S/16, S/16]."""
        return self.forward_early(images)[0]

    def forward_early(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Do as `ImageEncoderViT.forward_early`."""
        early = x = self.patch_embed(PATCHES(images))
        delta = self.pos_embed
        for index, block in enumerate(self.blocks):
            x, delta = block(x, delta)
            if index == self.early_index:
                early = x + delta
        narrowed = self.narrow(x) + delta if self.is_joined else self.narrow(x + delta)
        return self.neck(narrowed), early


class _Block(nn.Module):
    """`Block`, whose last sum is left to the next block, which makes it with its first norm."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        attention: Attention = block.attn
        self.num_heads, self.window = attention.num_heads, attention.window
        self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w
        self.qkv, self.proj = pointwise(attention.qkv), pointwise(attention.proj)
        self.norm1, self.norm2 = PluginNorm(block.norm1), PluginNorm(block.norm2)
        self.lin1, self.lin2 = block.mlp.lin1, pointwise(block.mlp.lin2)

    def forward(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Map x and what is still to be added to it, [B, C, G, G], to the same one block on.

        Before the first block that is the embedding of positions, [G, G, C].
        """
        add = self.norm1.add if delta.ndim == 4 else self.norm1.add_places
        x, normed = add(x, delta)
        mixed = REL_POS_ATTENTION(
            *(self.qkv(normed), self.qkv.bias, self.rel_pos_h, self.rel_pos_w),
            self.num_heads,
            self.window,
        )
        x, normed = self.norm2.add(x, self.proj(mixed))
        return x, self.lin2(LINEAR_GELU(normed, self.lin1.weight, self.lin1.bias))


class PluginNorm(nn.Module):
    """Layer norm over channels, alone or with the sum before it."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return LAYER_NORM(x, self.weight, self.bias, self.eps)

    def add(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        return ADD_LAYER_NORM(x, delta, self.weight, self.bias, self.eps)

    def add_places(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        return PLACE_LAYER_NORM(x, places, self.weight, self.bias, self.eps)


def pointwise(linear: nn.Linear) -> nn.Conv2d:
    """Return a linear layer as a 1x1 convolution that shares its weights."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, device="meta")
    conv.weight, conv.bias = constant(linear.weight[:, :, None, None]), linear.bias
    return conv


def _joined(first: nn.Conv2d, second: Any) -> nn.Conv2d:
    """Return two 1x1 convolutions, of which the second has no bias, as one."""
    conv = nn.Conv2d(first.in_channels, second.out_channels, 1, device="meta")
    weight, onto = first.weight[:, :, 0, 0].double(), second.weight[:, :, 0, 0].double()
    conv.weight = constant((onto @ weight).to(first.weight.dtype)[:, :, None, None])
    if first.bias is not None:
        conv.bias = constant((onto @ first.bias.double()).to(first.bias.dtype))
    return conv


def _patch_embedding(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the patches' convolution as one of 1x1 on what `PATCHES` gives."""
    embedding = nn.Conv2d(conv.weight[0].numel(), conv.out_channels, 1, device="meta")
    embedding.weight = constant(conv.weight.flatten(1)[:, :, None, None])
    embedding.bias = conv.bias
    return embedding


def constant(tensor: Tensor) -> nn.Parameter:
    """Return a tensor as a parameter, which is a weight of the graph."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


def attend_to_memories(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Do in the plugin's operator what `models.rotary.Kernel` says."""
    if mask is None:
        mask = q.new_zeros(1, k.shape[1])
    out: Tensor = MEMORY_ATTENTION(q, k, v, mask)
    return out


def feed_as_image(layer: MemoryAttentionLayer, cells: Tensor) -> Tensor:
    """Do as a layer's two linear layers in convolutions of 1x1, [N, HW, C] to the same.

    TensorRT 8.6 gives these its fastest kernels, one by one, where matrix products become part of
    a slow region.
    """
    side = layer.self_attn.side
    image = cells.transpose(1, 2).reshape(cells.shape[0], -1, side, side)
    hidden = F.relu(_pointwise(image, layer.linear1))
    return _pointwise(hidden, layer.linear2).flatten(2).transpose(1, 2)


def _pointwise(image: Tensor, linear: nn.Linear) -> Tensor:
    return F.conv2d(image, linear.weight[:, :, None, None], linear.bias)


class PluginKernels:
    """`ImageKernels` in the plugin's operators."""

    def embed_masks(
        self, image: Tensor, masks: Tensor, has_mask: Tensor, weights: MaskWeights
    ) -> Tensor:
        side = masks.shape[-1] // 4
        out: Tensor = EMBED_MASKS(image, masks, has_mask, *weights, side, MASK_EPSILON)
        return out

    def tokens_to_image(self, queries: Tensor, image: Image) -> Tensor:
        out: Tensor = TOKENS_TO_IMAGE(queries, image.rows, image.pe)
        return out

    def image_to_tokens(
        self, image: Image, keys: Tensor, offsets: Tensor, values: Tensor, norm: nn.LayerNorm
    ) -> Tensor:
        tensors = (image.rows, image.pe, keys, offsets, values, norm.weight, norm.bias)
        out: Tensor = IMAGE_TO_TOKENS(*tensors, NUM_HEADS, norm.eps)
        return out

    def upscale(self, image: Tensor, weights: Tensor, layers: nn.Sequential, side: int) -> Tensor:
        first, norm, _, second, _ = list[Any](layers)
        masks: Tensor = UPSCALE_MASKS(
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
