"""What stands behind the image encoder's trunk in a SAM 2: a feature pyramid over four stages.

Parameter names are those of the official `modeling/backbones/image_encoder.py` (Ravi et al., 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samtrt.registry import Sam2Spec


class Lateral(nn.Module):
    """One stage's features to the pyramid's width."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out, kernel_size=1)


class FpnNeck(nn.Module):
    """Lateral convolutions, the coarsest stage's first, as the official `FpnNeck` has them."""

    def __init__(self, widths: Sequence[int], out: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Lateral(width, out) for width in reversed(widths))

    def lateral(self, stage: int) -> nn.Conv2d:
        """Return the convolution of a stage, 0 for the finest."""
        lateral: Any = self.convs[-1 - stage]
        conv: nn.Conv2d = lateral.conv
        return conv


class PyramidEncoder(nn.Module):
    """A trunk and its pyramid, and `no_mem_embed`, which stands for memories that an image lacks.

    The trunk maps [B, 3, S, S] to the results of its four stages, from [B, C, S/4, S/4] to
    [B, C', S/32, S/32], and its `fold` brings it to the form that is exported.
    """

    def __init__(self, trunk: nn.Module, spec: Sam2Spec) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.neck = FpnNeck(spec.stage_widths, spec.prompt_embed_dim)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, spec.prompt_embed_dim))

    def forward_stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map [B, 3, S, S] to [B, C, S/4, S/4], [B, C', S/8, S/8] and [B, 256, S/16, S/16].

        The first two are as the trunk left them: their lateral convolutions are one with those of
        the mask decoder, `MaskDecoder2.fine_maps`.
        """
        fine, middle, coarse, coarsest = self.trunk(x)
        below = self.neck.lateral(2)(coarse)
        # Each cell four times. As `Resize` it would need factors in float32 whatever else is half.
        above = self.neck.lateral(3)(coarsest)[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return fine, middle, below + above.reshape(below.shape)

    def without_memories(self, coarse: Tensor) -> Tensor:
        """Make the image embedding of images alone, [B, 256, S/16, S/16]."""
        return coarse + self.no_mem_embed.reshape(1, -1, 1, 1)
