"""MobileSAM's image encoder: TinyViT, one stage of convolutions and three of window attention.

Parameter names and results are those of the official `modeling/tiny_vit_sam.py`, but for the
classifier that TinyViT was trained with, which takes no part. Batch norms are folded into their
convolutions before a model is exported (`fold_norms`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.layers import ConvNorm, LayerNorm2d
from samtrt.registry import TinyViTSpec

_EXPANSION = 4
"""How many times wider the inner layers of blocks are."""


class PatchEmbed(nn.Module):
    """[B, 3, S, S] to [B, C, S/4, S/4]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, 3, stride=2), nn.GELU(), ConvNorm(width // 2, width, 3, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class ConvBlock(nn.Module):
    """An inverted bottleneck with a residual connection (MBConv)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width * _EXPANSION
        self.conv1 = ConvNorm(width, inner, 1)
        self.conv2 = ConvNorm(inner, inner, 3, groups=inner)
        self.conv3 = ConvNorm(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        y = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(self.conv3(y) + x)


class PatchMerging(nn.Module):
    """[B, C, H, W] to the next stage's width, at half the height and width where `stride` is 2."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, out, 1)
        self.conv2 = ConvNorm(out, out, 3, stride, groups=out)
        self.conv3 = ConvNorm(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learnt bias for each distance of two places.

    Windows at the right and bottom edge are padded with zeros before the norm; padded tokens take
    part, as in the official code. What norm and `qkv` make of a zero is the same for all of them:
    both run on the real tokens only.
    """

    places: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.register_buffer("places", bias_places(window), persistent=False)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Map tokens [B, H * W, C] to the same shape."""
        batch, _, channels = x.shape
        side, heads = self.window, self.heads
        down, right = -height % side, -width % side
        rows, columns = (height + down) // side, (width + right) // side
        qkv, padding = self.qkv(self.norm(x)), self.qkv(self.norm.bias)
        qkv = qkv.reshape(batch, height, width, 3 * channels)
        if right:
            qkv = torch.cat([qkv, padding.expand(batch, height, right, -1)], dim=2)
        if down:
            qkv = torch.cat([qkv, padding.expand(batch, down, width + right, -1)], dim=1)
        # Channels are the heads', each of them q, k and v.
        cut = qkv.reshape(batch, rows, side, columns, side, heads, 3, channels // heads)
        cut = cut.permute(6, 0, 1, 3, 5, 2, 4, 7)
        q, k, v = cut.reshape(3, -1, heads, side * side, channels // heads).unbind(0)
        scale = (channels // heads) ** -0.5
        scores = (q * scale) @ k.transpose(-2, -1) + self.attention_biases[:, self.places]
        out = scores.softmax(dim=-1) @ v
        out = out.reshape(batch, rows, columns, heads, side, side, channels // heads)
        out = out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, rows * side, columns * side, channels)
        return self.proj(out[:, :height, :width].reshape(batch, height * width, channels))


def bias_places(side: int) -> Tensor:
    """Return which bias is for a query's and a key's place in a window.

    int64 [side * side, side * side], 0 to side * side - 1: biases are numbered in the order in
    which their distances (rows and columns apart) first occur, which is that of the first row.
    """
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    apart = [(one.flatten()[:, None] - one.flatten()).abs() for one in (rows, columns)]
    return apart[0] * side + apart[1]


class Mlp(nn.Module):
    """Norm, linear, GELU, linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width * _EXPANSION)
        self.fc2 = nn.Linear(width * _EXPANSION, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class WindowBlock(nn.Module):
    """Window attention, a convolution of each channel, and an MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape.

        Tokens have one dimension for height and width: OpenVINO takes four for an image, whose
        channels it moves for every norm.
        """
        height, width = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(tokens, height, width)
        tokens = self.local_conv(tokens.transpose(1, 2).reshape(x.shape)).flatten(2)
        tokens = tokens.transpose(1, 2)
        return (tokens + self.mlp(tokens)).transpose(1, 2).reshape(x.shape)


class Stage(nn.Module):
    """Blocks, and what leads to the next stage."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """Normalised, padded image [B, 3, S, S] to image embedding [B, 256, S/16, S/16]."""

    def __init__(self, spec: TinyViTSpec) -> None:
        super().__init__()
        widths, out = spec.widths, spec.prompt_embed_dim
        self.patch_embed = PatchEmbed(widths[0])
        # The last merging keeps height and width, so that a cell is 16 pixels wide.
        merging = [PatchMerging(widths[i], widths[i + 1], 1 if i == 2 else 2) for i in range(3)]
        first: list[nn.Module] = [ConvBlock(widths[0]) for _ in range(spec.depths[0])]
        stages = [Stage(first, merging[0])]
        for i, (heads, window) in enumerate(zip(spec.heads, spec.windows, strict=True), start=1):
            blocks: list[nn.Module] = [
                WindowBlock(widths[i], heads, window) for _ in range(spec.depths[i])
            ]
            stages.append(Stage(blocks, merging[i] if i < 3 else None))
        self.layers = nn.ModuleList(stages)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[3], out, kernel_size=1, bias=False),
            LayerNorm2d(out),
            nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_early(x)[0]

    def forward_early(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding, and what the second stage gave: [B, C, S/16, S/16]."""
        x = self.patch_embed(x)
        x = early = self.layers[1](self.layers[0](x))
        for stage in self.layers[2:]:
            x = stage(x)
        return self.neck(x), early
