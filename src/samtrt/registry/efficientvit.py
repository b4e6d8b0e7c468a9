"""EfficientViT-SAM."""

from __future__ import annotations

from dataclasses import dataclass

from samtrt.choices import Family
from samtrt.registry.spec import ModelSpec, unseen

_FOLDER = "https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/"


@dataclass(frozen=True, kw_only=True)
class EfficientViTSpec(ModelSpec):
    """EfficientViT-SAM's encoder: convolutions, and linear attention in its last stages.

    Sources: `efficientvit/models/efficientvit/backbone.py` and `sam.py` (Zhang et al., 2024).

    Attributes:
        widths: Channels of each stage, the stem first.
        depths: Blocks of each stage, without those that halve the height and width.
        blocks: What each stage after the stem is of: "fmb", "mb" or "att".
        fewer_norms: Of which of them only the last convolution of a block has a batch norm.
        head_dim: Channels of a head.
        kernel: Side of the convolution that makes the second scale of attention.
        neck_width, neck_depth, neck_ratio: Of the blocks where three stages come together.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    depths: tuple[int, ...] = (1, 1, 1, 4, 4)
    blocks: tuple[str, ...] = ("fmb", "fmb", "mb", "att")
    fewer_norms: tuple[bool, ...] = (False, False, True, True)
    head_dim: int = 32
    kernel: int = 5
    neck_width: int = 256
    neck_depth: int = 4
    neck_ratio: int = 1

    @property
    def family(self) -> Family:
        return Family.EFFICIENTVIT

    @property
    def early_dim(self) -> int:
        return self.widths[-2]

    @property
    def decoder_epsilon(self) -> float:
        return 1e-6


PUBLISHED = (
    *(
        EfficientViTSpec(
            name=f"efficientvit_sam_{name}",
            input_size=512,
            depths=depths,
            neck_depth=neck_depth,
            download=unseen(f"{_FOLDER}efficientvit_sam_{name}.pt"),
        )
        for name, depths, neck_depth in (
            ("l0", (1, 1, 1, 4, 4), 4),
            ("l1", (1, 1, 1, 6, 6), 8),
            ("l2", (1, 2, 2, 8, 8), 12),
        )
    ),
    *(
        EfficientViTSpec(
            name=f"efficientvit_sam_{name}",
            widths=(32, 64, 128, 256, 512, 1024),
            depths=depths,
            blocks=("fmb", "fmb", "fmb", "att", "att"),
            fewer_norms=(False, False, False, True, True),
            kernel=3,
            neck_depth=neck_depth,
            neck_ratio=4,
            download=unseen(f"{_FOLDER}efficientvit_sam_{name}.pt"),
        )
        for name, depths, neck_depth in (
            ("xl0", (0, 1, 1, 2, 3, 3), 6),
            ("xl1", (1, 2, 2, 4, 6, 6), 12),
        )
    ),
)

SMALL = (
    EfficientViTSpec(
        name="efficientvit_sam_t",
        widths=(8, 16, 24, 32, 40),
        depths=(1, 1, 1, 1, 1),
        head_dim=8,
        neck_width=32,
        neck_depth=1,
        image_size=256,
        input_size=128,
    ),
)
