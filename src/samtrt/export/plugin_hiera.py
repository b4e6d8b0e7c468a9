"""SAM 2's image encoder in operators of the plugin, as `PluginEncoder` has a ViT's."""

from __future__ import annotations

from typing import Any

from samtrt.errors import MissingExtraError

try:
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("Exporting", "export", error.name or "torch") from None

from samtrt.export.operators.gelu import GELU
from samtrt.export.operators.linear_gelu import LINEAR_GELU
from samtrt.export.operators.square_attention import SQUARE_ATTENTION
from samtrt.export.plugin import PluginNorm, constant, pointwise
from samtrt.models.hiera import Q_STRIDE, Hiera, HieraAttention

GELU_TILES = (64, 128)
"""Inputs and outputs of `SamtrtLinearGelu`'s kernels are multiples of these; a stage whose MLP is
of other widths takes a convolution and `SamtrtGelu`."""


class PluginHiera(nn.Module):
    """`Hiera` in the plugin's operators: the same weights, input, outputs and numbers."""

    def __init__(self, trunk: Hiera) -> None:
        super().__init__()
        self.patches = trunk.patch_embed.proj
        self.positions = constant(trunk.positions()[0])
        self.stage_ends = trunk.stage_ends
        self.blocks = nn.ModuleList(_Block(block) for block in trunk.blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Do as `Hiera.forward`."""
        x, delta = self.patches(x), self.positions
        stages = []
        for index, block in enumerate(self.blocks):
            x, delta, before = block(x, delta)
            if index - 1 in self.stage_ends:
                stages.append(before)
        return [*stages, x + delta]


class _Block(nn.Module):
    """`HieraBlock`, whose last sum the next block makes, with its first norm."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        attention: HieraAttention = block.attn
        self.sizes = attention.num_heads, attention.window, attention.stride
        self.qkv, self.mixed = pointwise(attention.qkv), pointwise(attention.proj)
        self.norm1, self.norm2 = PluginNorm(block.norm1), PluginNorm(block.norm2)
        self.widened = pointwise(block.proj) if block.proj is not None else None
        self.pooled = block.pooled
        lin1 = block.mlp.lin1
        sizes = zip((lin1.in_features, lin1.out_features), GELU_TILES, strict=True)
        self.is_joined = all(size % tile == 0 for size, tile in sizes)
        self.lin1 = lin1 if self.is_joined else pointwise(lin1)
        self.lin2 = pointwise(block.mlp.lin2)

    def forward(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x and what is still to be added to it, [B, C, G, G], to the same one block on.

        Before the first block that is the embedding of positions, [G, G, C]. The third result is
        the sum of both.
        """
        add = self.norm1.add if delta.ndim == 4 else self.norm1.add_places
        before, normed = add(x, delta)
        x = before if self.widened is None else self.widened(normed)
        if self.pooled:
            x = F.max_pool2d(x, Q_STRIDE)
        mixed = SQUARE_ATTENTION(self.qkv(normed), self.qkv.bias, *self.sizes)
        x, normed = self.norm2.add(x, self.mixed(mixed))
        return x, self.lin2(self._activated(normed)), before

    def _activated(self, x: Tensor) -> Tensor:
        lin1 = self.lin1
        if self.is_joined:
            return LINEAR_GELU(x, lin1.weight, lin1.bias)  # type: ignore[no-any-return]
        return GELU(lin1(x))  # type: ignore[no-any-return]
