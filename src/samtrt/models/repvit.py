"""EdgeTAM's image encoder: RepViT, convolutions alone, in four stages.

Parameter names and results are those of timm's `RepVit` in its legacy form, as `features_only`
makes it (Wang et al., 2023). Batch norms are folded before a model is exported (`fold_norms`), and
then each depthwise convolution, the scale beside it and the residual are one convolution (`fold`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.layers import ConvNorm
from samtrt.registry import RepViTSpec

_EXPANSION = 2
"""How many times wider the inner layers of channel mixers are."""


class TokenMixer(nn.Module):
    """Depthwise 3 x 3 and 1 x 1 convolutions of [B, C, H, W] and the input itself, summed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv: nn.Module = ConvNorm(width, width, 3, groups=width)
        self.conv1: nn.Module | None = ConvNorm(width, width, 1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv1 is None:
            return self.conv(x)
        return self.conv(x) + self.conv1(x) + x

    def fold(self) -> None:
        """Sum all three as the weights of one convolution. Norms must be folded before."""
        if self.conv1 is None:
            return
        whole, point = self.conv.get_submodule("c"), self.conv1.get_submodule("c")
        assert isinstance(whole, nn.Conv2d)
        assert isinstance(point, nn.Conv2d)
        assert whole.bias is not None
        assert point.bias is not None
        with torch.no_grad():
            centre = F.pad(point.weight + 1, (1, 1, 1, 1))
            whole.weight = nn.Parameter(whole.weight + centre)
            whole.bias = nn.Parameter(whole.bias + point.bias)
        self.conv, self.conv1 = whole, None


class SqueezeExcite(nn.Module):
    """Channels of [B, C, H, W] scaled by what their means over the image tell (Hu et al., 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(8, (width // 4 + 4) // 8 * 8)  # timm's `make_divisible`
        self.fc1 = nn.Conv2d(width, inner, kernel_size=1)
        self.fc2 = nn.Conv2d(inner, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(means))).sigmoid()


class ChannelMixer(nn.Module):
    """Two 1 x 1 convolutions, the first widening."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, _EXPANSION * width, 1)
        self.conv2 = ConvNorm(_EXPANSION * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(x)))


class Block(nn.Module):
    """A token mixer and a channel mixer; every other block of a stage excites channels between."""

    def __init__(self, width: int, excites: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcite(width) if excites else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.token_mixer(x))
        return x + self.channel_mixer(x)


class Downsample(nn.Module):
    """[B, C, H, W] to [B, C', H/2, W/2]."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.pre_block = Block(width, excites=False)
        self.spatial_downsample = ConvNorm(width, width, 3, stride=2, groups=width)
        self.channel_downsample = ConvNorm(width, out, 1)
        self.ffn = ChannelMixer(out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        return x + self.ffn(x)


class RepViTStage(nn.Module):
    def __init__(self, width: int, out: int, depth: int, is_first: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity() if is_first else Downsample(width, out)
        self.blocks = nn.Sequential(*(Block(out, excites=i % 2 == 0) for i in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


class Stem(nn.Module):
    """[B, 3, S, S] to [B, C, S/4, S/4]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width // 2, 3, stride=2)
        self.conv2 = ConvNorm(width // 2, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(x)))


class Body(nn.Module):
    """Stem and stages, named as timm names those of a model that gives features alone."""

    def __init__(self, spec: RepViTSpec) -> None:
        super().__init__()
        self.stem = Stem(spec.widths[0])
        before = spec.widths[0]
        for number, (width, depth) in enumerate(zip(spec.widths, spec.depths, strict=True)):
            self.add_module(f"stages_{number}", RepViTStage(before, width, depth, not number))
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = []
        for part in self.children():
            x = part(x)
            stages.append(x)
        return stages[1:]


class RepViT(nn.Module):
    """Normalised image [B, 3, S, S] to the results of its four stages."""

    def __init__(self, spec: RepViTSpec) -> None:
        super().__init__()
        self.body = Body(spec)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return [B, C, S/4, S/4] to [B, C', S/32, S/32]."""
        stages: list[Tensor] = self.body(x)
        return stages

    def fold(self) -> None:
        """Make one convolution of every token mixer's three branches."""
        for module in self.modules():
            if isinstance(module, TokenMixer):
                module.fold()
