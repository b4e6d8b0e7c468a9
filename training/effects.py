"""What happens to pictures on the way into a scene: colour, light, blur, noise, JPEG.

Every function takes a `Dice`, draws a different effect for each picture of the batch, and needs
nothing from the GPU, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# The luminance table of ITU-T T.81, annex K, in natural order.
_JPEG_ROWS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


class Dice:
    """Random numbers on one device from one generator."""

    def __init__(self, generator: torch.Generator, dtype: torch.dtype) -> None:
        self.generator = generator
        self.device = generator.device
        self.dtype = dtype
        self.jpeg_table = torch.tensor(_JPEG_ROWS, device=self.device, dtype=torch.float32)
        wave = torch.arange(8, device=self.device, dtype=torch.float32)
        basis = torch.cos((2 * wave + 1) * wave[:, None] * math.pi / 16) * 0.5
        basis[0] *= math.sqrt(0.5)
        self.dct = basis  # orthonormal, [frequency, sample]

    def rand(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers, float32."""
        value = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * value

    def randn(self, *shape: int) -> Tensor:
        """Normal numbers, float32."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def knob(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """One uniform number a picture, [B, 1, 1, 1] in the pictures' own dtype."""
        return self.rand(count, 1, 1, 1, low=low, high=high).to(self.dtype)

    def grain(self, *shape: int) -> Tensor:
        """Normal noise in the pictures' own dtype."""
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=self.dtype)

    def pick(self, high: int, count: int) -> Tensor:
        """Draw `count` indices below `high`."""
        return torch.randint(high, (count,), generator=self.generator, device=self.device)

    def chance(self, probability: float, count: int) -> Tensor:
        """True with a probability, bool [B, 1, 1, 1]."""
        return (self.rand(count) < probability).reshape(count, 1, 1, 1)


def recolour(dice: Dice, image: Tensor, strength: float) -> Tensor:
    """Mix channels and change contrast and brightness."""
    count = len(image)
    mix = torch.eye(3, device=image.device) + 0.4 * strength * dice.randn(count, 3, 3)
    mix = mix / mix.sum(2, keepdim=True).clamp(min=0.5)
    gain = (strength * dice.randn(count, 1, 1)).exp()
    offset = 128 + 45 * strength * dice.randn(count, 3, 1)
    flat = (image - 128).flatten(2)
    mixed = torch.baddbmm(offset.to(image.dtype), (mix * gain).to(image.dtype), flat)
    return mixed.clamp(0, 255).reshape(image.shape)


def procedural(dice: Dice, count: int, size: int) -> Tensor:
    """Gradients, stripes and cloud noise of two colours: [B, 3, S, S]."""
    axis = torch.linspace(-1, 1, size, device=dice.device)
    angle, turns = dice.rand(count, 1, 1, high=6.3), dice.rand(count, 1, 1, low=0.1, high=20)
    along = angle.cos() * axis[None, None, :] + angle.sin() * axis[None, :, None]
    stripes = (along * turns + dice.rand(count, 1, 1, high=6.3)).sin().to(dice.dtype)
    cloud = torch.zeros(count, 1, size, size, device=dice.device, dtype=dice.dtype)
    for side in (4, 16, 64, 256):
        noise = dice.grain(count, 1, side, side) * dice.knob(count)
        cloud = cloud + F.interpolate(noise, size=(size, size), mode="bilinear")
    weight = dice.knob(count)
    blend = (weight * stripes[:, None] + (1 - weight) * cloud).mul(1.5).sigmoid()
    one, two = (dice.rand(count, 3, 1, 1, high=255).to(dice.dtype) for _ in range(2))
    return one + (two - one) * blend


def blurred(image: Tensor, side: int) -> Tensor:
    """Box blur that does not darken the frame."""
    half = side // 2
    return F.avg_pool2d(F.pad(image, (half, half, half, half), mode="replicate"), side, 1)


def shadowed(dice: Dice, image: Tensor, alpha: Tensor) -> Tensor:
    """Darken under a shifted, blurred copy of an object [B, 1, S, S], in some scenes."""
    count = len(image)
    small = F.avg_pool2d(F.avg_pool2d(alpha, 8), 5, 1, 2).float()
    shift = dice.rand(count, 2, 1, low=-0.06, high=0.06)
    linear = torch.eye(2, device=image.device).expand(count, 2, 2)
    grid = F.affine_grid(torch.cat([linear, shift], 2), list(small.shape), align_corners=False)
    moved = F.grid_sample(small, grid, align_corners=False).to(image.dtype)
    soft = F.interpolate(moved, size=image.shape[2:], mode="bilinear")
    strength = dice.knob(count, low=0.1, high=0.7) * dice.chance(0.4, count)
    return image * (1 - strength * soft)


def jpeg(dice: Dice, image: Tensor) -> Tensor:
    """Quantise 8 x 8 blocks' cosine transforms as JPEG of quality 25 to 95 does."""
    count, _, height, width = image.shape
    quality = dice.rand(count, low=25, high=95)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    step = (dice.jpeg_table * scale.reshape(-1, 1, 1)).clamp(min=1).reshape(-1, 1, 1, 1, 8, 8)
    blocks = image.float().reshape(count, 3, height // 8, 8, width // 8, 8).transpose(3, 4) - 128
    waves = dice.dct @ blocks @ dice.dct.T
    blocks = dice.dct.T @ ((waves / step).round() * step) @ dice.dct
    return (blocks.transpose(3, 4).reshape(image.shape) + 128).to(image.dtype)


def finish(dice: Dice, image: Tensor) -> Tensor:
    """Lighting, blur, lost resolution, contrast, noise and JPEG over whole scenes."""
    count = len(image)
    axis = torch.linspace(-1, 1, image.shape[-1], device=image.device)
    tilt = dice.randn(count, 2, 1, 1, 1) * 0.2
    light = tilt[:, 0] * axis[:, None] + tilt[:, 1] * axis[None, :]
    image = image * light.exp().to(image.dtype)
    image = torch.where(dice.chance(0.3, count), blurred(image, 3), image)
    half = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2.0, mode="bilinear")
    image = torch.where(dice.chance(0.15, count), half, image)
    grey = image.mean(1, keepdim=True).expand_as(image)
    image = torch.where(dice.chance(0.08, count), grey, image)
    contrast = (0.2 * dice.randn(count, 1, 1, 1)).exp().to(image.dtype)
    image = (image - 120) * contrast + 120 + (12 * dice.randn(count, 3, 1, 1)).to(image.dtype)
    image = image + dice.grain(*image.shape) * dice.knob(count, high=9) ** 1.2
    image = image.clamp(0, 255)
    image = torch.where(dice.chance(0.4, count), jpeg(dice, image), image)
    return image.clamp(0, 255).float().round()
