"""SAM 2's image encoder: Hiera, a ViT in four stages.

Parameter names are those of the official `modeling/backbones/hieradet.py` (Ravi et al., 2024; Ryali
et al., 2023), but for those of the MLPs; the arithmetic is arranged for export.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.layers import MLPBlock
from samtrt.registry import HieraSpec

Q_STRIDE = 2
"""By which a stage's first block brings its queries closer together, in height and width."""


class HieraAttention(nn.Module):
    """Multi-head attention over squares of tokens, whose queries may be pooled 2 x 2.

    Squares at the right and bottom edge are padded; padded tokens take part, as in the official
    code, where they are zero vectors before `qkv`, so that their query, key and value are the bias
    of `qkv`. Here `qkv` runs on the real tokens only and the bias is added after padding.
    """

    def __init__(self, dim: int, out: int, num_heads: int, window: int, pooled: bool) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.stride = Q_STRIDE if pooled else 1
        self.qkv = nn.Linear(dim, 3 * out)
        self.proj = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, G, G, C] to [B, G', G', C'], with G' = G / 2 where queries are pooled."""
        grid = x.shape[1]
        side = self.window or grid
        pad = -grid % side
        qkv = F.pad(F.linear(x, self.qkv.weight), (0, 0, 0, pad, 0, pad)) + self.qkv.bias
        out, out_grid = attend_squares(qkv, self.num_heads, side, self.stride), grid // self.stride
        return self.proj(out[:, :out_grid, :out_grid])


def attend_squares(qkv: Tensor, num_heads: int, side: int, stride: int) -> Tensor:
    """Attend within each of the squares that a padded grid is made of.

    Args:
        qkv: [B, P, P, 3C] with P a multiple of `side`; channels are q, k, v, each by head.
        num_heads: Number of heads.
        side: Of the squares, in tokens.
        stride: By which queries are pooled, in height and width.

    Returns:
        [B, P / stride, P / stride, C].
    """
    count, short = qkv.shape[1] // side, side // stride
    q, k, v = _squares(qkv, side).chunk(3, dim=-1)
    if stride > 1:
        q = F.max_pool2d(q.permute(0, 3, 1, 2), stride).permute(0, 2, 3, 1)
    q, k, v = (_heads(one, num_heads) for one in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v)
    out = mixed.transpose(1, 2).reshape(-1, count, count, short, short, qkv.shape[3] // 3)
    return out.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _squares(x: Tensor, side: int) -> Tensor:
    """Cut [B, P, P, C] into squares [B (P / side)^2, side, side, C]."""
    count = x.shape[1] // side
    cut = x.reshape(-1, count, side, count, side, x.shape[3]).transpose(2, 3)
    return cut.reshape(-1, side, side, x.shape[3])


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """[N, side, side, C] to [N, heads, side * side, C / heads]."""
    side, width = x.shape[1], x.shape[3]
    return x.reshape(-1, side * side, num_heads, width // num_heads).transpose(1, 2)


class HieraBlock(nn.Module):
    """Pre-norm transformer block; a stage's first one widens, and halves the grid."""

    def __init__(self, dim: int, out: int, num_heads: int, window: int, pooled: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = HieraAttention(dim, out, num_heads, window, pooled)
        self.norm2 = nn.LayerNorm(out, eps=1e-6)
        self.mlp = MLPBlock(out, 4 * out)
        self.proj = nn.Linear(dim, out) if dim != out else None
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        if self.proj is not None:
            x = self.proj(normed)
        if self.pooled:
            x = F.max_pool2d(x.permute(0, 3, 1, 2), Q_STRIDE).permute(0, 2, 3, 1)
        x = x + self.attn(normed)
        return x + self.mlp(self.norm2(x))


class HieraPatchEmbed(nn.Module):
    """[B, 3, S, S] to [B, S/4, S/4, C] by one convolution whose patches overlap."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=4, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class Hiera(nn.Module):
    """Normalised image [B, 3, S, S] to the results of its four stages."""

    folded: Tensor | None

    def __init__(self, spec: HieraSpec) -> None:
        super().__init__()
        self.grid = spec.image_size // 4
        width, window = spec.embed_dim, spec.windows[0]
        self.patch_embed = HieraPatchEmbed(width)
        # A coarse table for the whole image, and a fine one that repeats in every window.
        self.pos_embed = nn.Parameter(torch.zeros(1, width, spec.background, spec.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, width, window, window))
        self.stage_ends = [sum(spec.stages[: i + 1]) - 1 for i in range(len(spec.stages))]
        self.blocks = nn.ModuleList()
        before, heads = width, spec.num_heads
        for stage, depth in enumerate(spec.stages):
            for number in range(depth):
                first = bool(stage) and not number
                # A stage's first block attends in the windows of the stage before it.
                window = spec.windows[stage - first]
                if len(self.blocks) in spec.global_attn_indexes:
                    window = 0
                self.blocks.append(HieraBlock(before, width, heads, window, first))
                before = width
            width, heads = 2 * width, 2 * heads
        self.register_buffer("folded", None, persistent=False)

    def positions(self) -> Tensor:
        """Return what is added to every image's patches: [1, S/4, S/4, C]."""
        if self.folded is not None:
            return self.folded
        size = (self.grid, self.grid)
        coarse = F.interpolate(self.pos_embed, size=size, mode="bicubic")
        times = self.grid // self.pos_embed_window.shape[-1]
        return (coarse + self.pos_embed_window.tile(1, 1, times, times)).permute(0, 2, 3, 1)

    def fold(self) -> None:
        """Compute the positions once and for all, so that no graph resizes a table."""
        with torch.no_grad():
            self.folded = self.positions().contiguous()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return [B, C, S/4, S/4], [B, 2C, S/8, S/8], [B, 4C, S/16, S/16], [B, 8C, S/32, S/32]."""
        x = self.patch_embed(x) + self.positions()
        stages = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stage_ends:
                stages.append(x.permute(0, 3, 1, 2))
        return stages
