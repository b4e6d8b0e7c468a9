"""SAM's image encoder: a ViT with window and global attention and decomposed relative positions.

Parameter names and results are those of the official `modeling/image_encoder.py`
(`ImageEncoderViT`); the arithmetic is arranged for export.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.choices import AttentionForm
from samtrt.models.attention import ATTENTION_FORMS
from samtrt.models.layers import LayerNorm2d, MLPBlock
from samtrt.registry import ViTSpec


class PatchEmbed(nn.Module):
    """[B, 3, S, S] to [B, S/16, S/16, C] by one strided convolution."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Multi-head attention over one square of tokens, or over windows of it.

    `window == 0` is global attention over `grid` x `grid` tokens. Windows at the right and bottom
    edge are padded; padded tokens take part, as in the official code, where they are zero vectors
    before `qkv`, so that their query, key and value are the bias of `qkv`. Here `qkv` runs on the
    real tokens only and the bias is added after padding: the same numbers for less work.
    """

    distance: Tensor

    def __init__(self, dim: int, num_heads: int, window: int, grid: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.grid = grid
        side = window or grid
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.register_buffer("distance", row_distances(side), persistent=False)
        self.form = AttentionForm.ADD

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, grid, grid, C] to the same shape."""
        grid = x.shape[1]
        qkv = F.linear(x, self.qkv.weight)
        side = self.window or grid
        pad = -grid % side
        qkv = F.pad(qkv, (0, 0, 0, pad, 0, pad)) + self.qkv.bias
        rel_h, rel_w = self.rel_pos_h[self.distance], self.rel_pos_w[self.distance]
        out = attend_squares(qkv, rel_h, rel_w, self.num_heads, self.form)
        return self.proj(out[:, :grid, :grid])


def row_distances(side: int) -> Tensor:
    """Return which row of `rel_pos_h` or `rel_pos_w` is for a query's and a key's place.

    int64 [side, side], 0 to 2 * side - 2: the query's place less the key's, plus side - 1.
    """
    places = torch.arange(side)
    return places[:, None] - places[None, :] + side - 1


def attend_squares(
    qkv: Tensor, rel_h: Tensor, rel_w: Tensor, num_heads: int, form: AttentionForm
) -> Tensor:
    """Attend within each of the squares that a padded grid is made of.

    Args:
        qkv: [B, P, P, 3C] with P a multiple of the squares' side; channels are q, k, v, by head.
        rel_h: [side, side, C / num_heads], for a query's and a key's row.
        rel_w: The same for columns.
        num_heads: Number of heads.
        form: How the relative positions enter.

    Returns:
        [B, P, P, C].
    """
    batch, size, _, width = qkv.shape
    side = rel_h.shape[0]
    count = size // side
    heads = qkv.reshape(batch, count, side, count, side, 3, num_heads, -1)
    # [3, B * windows, heads, tokens, head_dim]
    heads = heads.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 3).flatten(3, 4)
    q, k, v = heads.unbind(0)
    out = ATTENTION_FORMS[form](q, k, v, rel_h, rel_w, (side, side))
    out = out.reshape(batch, count, count, num_heads, side, side, -1)
    return out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, size, size, width // 3)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, spec: ViTSpec, window: int) -> None:
        super().__init__()
        dim = spec.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, spec.num_heads, window, spec.embedding_size)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLPBlock(dim, round(dim * spec.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, grid, grid, C] to the same shape.

        Between, tokens have one dimension for height and width: OpenVINO takes four for an image,
        whose channels it moves for every norm.
        """
        tokens = x.flatten(1, 2)
        tokens = tokens + self.attn(self.norm1(tokens).reshape(x.shape)).flatten(1, 2)
        return (tokens + self.mlp(self.norm2(tokens))).reshape(x.shape)


class ImageEncoderViT(nn.Module):
    """Normalised, padded image to image embedding.

    Input: float [B, 3, S, S] with S = `spec.image_size`. Output: float
    [B, 256, S/16, S/16].
    """

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        size, out = spec.embedding_size, spec.prompt_embed_dim
        self.patch_embed = PatchEmbed(spec.patch_size, spec.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, size, size, spec.embed_dim))
        self.blocks = nn.ModuleList(
            Block(spec, 0 if i in spec.global_attn_indexes else spec.window_size)
            for i in range(spec.depth)
        )
        self.early_index = min(spec.global_attn_indexes, default=spec.depth - 1)
        self.neck = nn.Sequential(
            nn.Conv2d(spec.embed_dim, out, kernel_size=1, bias=False),
            LayerNorm2d(out),
            nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out),
        )

    def set_attention_form(self, form: AttentionForm) -> None:
        """Choose how every block adds relative positions; results stay the same."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_early(x)[0]

    def forward_early(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding, and what the first global block gave: [B, C, S/16, S/16]."""
        x = self.patch_embed(x) + self.pos_embed
        early = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.early_index:
                early = x
        return self.neck(x.permute(0, 3, 1, 2)), early.permute(0, 3, 1, 2)
