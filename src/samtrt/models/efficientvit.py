"""EfficientViT-SAM's image encoder: convolutions, and linear attention at two scales.

Parameter names and results are those of the official `models/efficientvit/backbone.py` and
`sam.py` (Zhang et al., 2024). Batch norms are folded into their convolutions before a model is
exported (`fold_norms`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.layers import LayerNorm2d, Norm2d
from samtrt.registry import EfficientViTSpec

EPSILON = 1e-6
"""Of all norms, those of the mask decoder too (`sam_model_zoo.py`)."""


SMALLEST_SUM = 1e-18
"""Least that linear attention divides by: 1e-15 over the number of places."""


class ConvLayer(nn.Module):
    """Convolution; batch norm or else a bias; GELU where asked for.

    Attributes:
        act: The activation, or None.
    """

    act: Callable[[Tensor], Tensor] | None

    def __init__(
        self,
        width: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        bias: bool | None = None,
        act: bool = False,
    ) -> None:
        super().__init__()
        has_bias = not norm if bias is None else bias
        self.conv = nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=has_bias)
        if norm:
            self.norm = Norm2d(out, EPSILON)
        self.act = partial(F.gelu, approximate="tanh") if act else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if "norm" in self._modules:
            x = self.norm(x)
        return self.act(x) if self.act else x


class ResBlock(nn.Module):
    """Two convolutions of 3 x 3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(width, width, 3, act=True)
        self.conv2 = ConvLayer(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class FusedConv(nn.Module):
    """A convolution of 3 x 3 that widens and one of 1 x 1 that narrows (FusedMBConv)."""

    def __init__(self, width: int, out: int, stride: int, ratio: int, norm: bool = True) -> None:
        super().__init__()
        inner = width * ratio
        self.spatial_conv = ConvLayer(width, inner, 3, stride, norm=norm, act=True)
        self.point_conv = ConvLayer(inner, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.spatial_conv(x))


class DepthConv(nn.Module):
    """1 x 1 that widens, 3 x 3 of each channel, 1 x 1 that narrows (MBConv)."""

    def __init__(self, width: int, out: int, stride: int, ratio: int, norm: bool = True) -> None:
        super().__init__()
        inner = width * ratio
        self.inverted_conv = ConvLayer(width, inner, norm=norm, act=True)
        self.depth_conv = ConvLayer(inner, inner, 3, stride, inner, norm=norm, act=True)
        self.point_conv = ConvLayer(inner, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class LinearAttention(nn.Module):
    """Attention with ReLU in place of softmax, so that keys and values are summed up first.

    Sums over all places are taken as means: the same result, with numbers that half precision
    holds. The division may be by nearly nothing: it stays in float32 (`export.precision`).
    """

    def __init__(self, width: int, dim: int, kernel: int) -> None:
        super().__init__()
        self.dim = dim
        heads = width // dim
        inner = heads * dim
        self.qkv = ConvLayer(width, 3 * inner, norm=False, bias=False)
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(
                        3 * inner,
                        3 * inner,
                        kernel,
                        padding=kernel // 2,
                        groups=3 * inner,
                        bias=False,
                    ),
                    nn.Conv2d(3 * inner, 3 * inner, 1, groups=3 * heads, bias=False),
                )
            ]
        )
        self.proj = ConvLayer(2 * inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        qkv = self.qkv(x)
        both = torch.cat([qkv, *(scale(qkv) for scale in self.aggreg)], dim=1)
        batch, _, height, width = both.shape
        q, k, v = both.reshape(batch, -1, 3, self.dim, height * width).unbind(2)
        q, k = F.relu(q), F.relu(k) * (1 / (height * width))
        # A last row of ones: what it sums up to is what the others are divided by.
        v = torch.cat([v, torch.ones_like(v[:, :, :1])], dim=2)
        out = (v @ k.transpose(-2, -1)) @ q
        # Where no key answers a query both are 0, and so is the result. A sum with as small a
        # number would do, were it not for simplifiers that take it for nothing.
        out = out[:, :, :-1] / out[:, :, -1:].clamp(min=SMALLEST_SUM)
        return self.proj(out.reshape(batch, -1, height, width))


class Residual(nn.Module):
    """A block, with its input added where `shortcut` says so."""

    def __init__(self, main: nn.Module, shortcut: bool = True) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + x if self.shortcut else self.main(x)


class AttentionBlock(nn.Module):
    """Linear attention, then convolutions, each with its input added."""

    def __init__(self, width: int, dim: int, kernel: int, ratio: int) -> None:
        super().__init__()
        self.context_module = Residual(LinearAttention(width, dim, kernel))
        self.local_module = Residual(DepthConv(width, width, 1, ratio, norm=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(self.context_module(x))


class Blocks(nn.Module):
    """Modules one after the other, under the official code's name for them."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.op_list:
            x = block(x)
        return x


class Backbone(nn.Module):
    """[B, 3, S, S] to the results of all stages, each of half the last one's height and width."""

    def __init__(self, spec: EfficientViTSpec) -> None:
        super().__init__()
        first = spec.widths[0]
        stem: list[nn.Module] = [ConvLayer(3, first, 3, 2, act=True)]
        stem += [Residual(ResBlock(first)) for _ in range(spec.depths[0])]
        stages = [Blocks(stem)]
        for index, (width, out) in enumerate(pairwise(spec.widths), start=1):
            stages.append(Blocks(_stage(spec, index, width, out)))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


def _stage(spec: EfficientViTSpec, index: int, width: int, out: int) -> list[nn.Module]:
    kind, ratio = spec.blocks[index - 1], 6 if index == len(spec.widths) - 1 else 4
    fewer = spec.fewer_norms[index - 1]
    conv = FusedConv if kind == "fmb" else DepthConv
    blocks: list[nn.Module] = [Residual(conv(width, out, 2, 4 * ratio, not fewer), shortcut=False)]
    for _ in range(spec.depths[index]):
        if kind == "att":
            blocks.append(AttentionBlock(out, spec.head_dim, spec.kernel, ratio))
        else:
            blocks.append(Residual(conv(out, out, 1, ratio, not fewer)))
    return blocks


class Upsampling(nn.Module):
    """Bicubic resizing of a square to a larger one, as products with two constant matrices.

    `Resize` would do, but each runtime has its own idea of cubic weights and of borders.
    """

    matrix: Tensor

    def __init__(self, side: int, out: int) -> None:
        super().__init__()
        self.sides = side, out
        self.register_buffer("matrix", bicubic(side, out), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix @ x @ self.matrix.t()


def bicubic(side: int, out: int) -> Tensor:
    """Return the weights [out, side] with which PyTorch resizes `side` places to `out`."""
    eye = torch.eye(side)[None, None]
    return F.interpolate(eye, (out, side), mode="bicubic", align_corners=False)[0, 0]


class Neck(nn.Module):
    """The last three stages, brought to one size and added, to 256 channels."""

    def __init__(self, spec: EfficientViTSpec) -> None:
        super().__init__()
        grid, width, inputs = spec.embedding_size, spec.neck_width, []
        for stage in range(len(spec.widths) - 1, len(spec.widths) - 4, -1):
            side = spec.encoder_size >> (stage + 1)
            one: list[nn.Module] = [ConvLayer(spec.widths[stage], width)]
            if side != grid:
                one.append(Upsampling(side, grid))
            inputs.append(Blocks(one))
        self.input_ops = nn.ModuleList(inputs)
        middle = [
            Residual(FusedConv(width, width, 1, spec.neck_ratio)) for _ in range(spec.neck_depth)
        ]
        self.middle = Blocks([*middle])
        last = ConvLayer(width, spec.prompt_embed_dim, norm=False)
        self.output_ops = nn.ModuleList([Blocks([last])])

    def forward(self, stages: list[Tensor]) -> Tensor:
        third, second, first = (
            op(x) for op, x in zip(self.input_ops, reversed(stages[-3:]), strict=True)
        )
        return self.output_ops[0](self.middle(third + (second + first)))


class EfficientViT(nn.Module):
    """Normalised, padded image [B, 3, S, S] to image embedding [B, 256, G, G]."""

    def __init__(self, spec: EfficientViTSpec) -> None:
        super().__init__()
        self.backbone = Backbone(spec)
        self.neck = Neck(spec)
        self.norm = LayerNorm2d(spec.prompt_embed_dim, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.neck(self.backbone(x)))
