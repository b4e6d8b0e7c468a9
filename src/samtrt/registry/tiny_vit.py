"""MobileSAM, and the SAM-HQ made of it."""

from __future__ import annotations

from dataclasses import dataclass

from samtrt.choices import Family
from samtrt.registry.spec import HQ_URL, ModelSpec, unseen


@dataclass(frozen=True, kw_only=True)
class TinyViTSpec(ModelSpec):
    """MobileSAM's encoder: TinyViT, one stage of convolutions and three of windows.

    Sources: `mobile_sam/build_sam.py` (Zhang et al., 2023) and `modeling/tiny_vit_sam.py`.
    """

    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int] = (4, 5, 10)
    windows: tuple[int, int, int] = (7, 14, 7)

    @property
    def family(self) -> Family:
        return Family.TINY_VIT

    @property
    def early_dim(self) -> int:
        return self.widths[2]


PUBLISHED = (
    TinyViTSpec(
        name="mobile_sam",
        download=unseen(
            "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt"
        ),
    ),
    TinyViTSpec(
        name="sam_hq_vit_tiny",
        hq=True,
        download=unseen(HQ_URL + "sam_hq_vit_tiny.pth"),
    ),
)

SMALL = (
    TinyViTSpec(
        name="mobile_sam_t",
        widths=(16, 32, 48, 64),
        depths=(1, 1, 2, 1),
        heads=(1, 2, 2),
        image_size=256,
    ),
)
