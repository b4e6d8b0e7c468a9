"""EdgeTAM."""

from __future__ import annotations

from dataclasses import dataclass

from samtrt.choices import Family
from samtrt.registry.sam2 import Sam2Spec
from samtrt.registry.spec import unseen


@dataclass(frozen=True, kw_only=True)
class RepViTSpec(Sam2Spec):
    """EdgeTAM: a RepViT in front of SAM 2, whose memories are few tokens (Zhou et al., 2025).

    Source: `sam2/configs/edgetam.yaml`, and `repvit_m1` of timm (Wang et al., 2023).

    Attributes:
        widths: Channels of the four stages.
        depths: Blocks of each stage.
    """

    widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    depths: tuple[int, int, int, int] = (2, 2, 14, 2)
    version: str | None = "2.0"  # pointers have no time, and memories no word for an absent object
    memory_layers: int = 2
    latents: int = 256
    latents_2d: int = 256

    @property
    def family(self) -> Family:
        return Family.REPVIT

    @property
    def stage_widths(self) -> tuple[int, int, int, int]:
        return self.widths


PUBLISHED = (
    RepViTSpec(
        name="edgetam",
        download=unseen(
            "https://github.com/facebookresearch/EdgeTAM/raw/main/checkpoints/edgetam.pt"
        ),
    ),
)

SMALL = (
    RepViTSpec(
        name="edgetam_t",
        widths=(16, 32, 48, 64),
        depths=(1, 2, 2, 1),
        latents=12,
        latents_2d=16,
        image_size=128,
    ),
)
