"""SAM 2 and 2.1."""

from __future__ import annotations

from dataclasses import dataclass, replace

from samtrt.choices import Family
from samtrt.registry.sam2 import Sam2Spec
from samtrt.registry.spec import unseen


@dataclass(frozen=True, kw_only=True)
class HieraSpec(Sam2Spec):
    """SAM 2's encoder (Ravi et al., 2024).

    Source: the YAML files of `sam2/configs`.

    Attributes:
        embed_dim: Width of the first stage; each further stage has twice the width and the heads.
        num_heads: Of the first stage.
        stages: Blocks of each stage.
        global_attn_indexes: Blocks that attend to the whole image.
        windows: Tokens along a side of a window, for each stage.
        background: Height and width of the coarse table of positions.
    """

    embed_dim: int
    num_heads: int
    stages: tuple[int, int, int, int]
    global_attn_indexes: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7

    @property
    def family(self) -> Family:
        return Family.HIERA

    @property
    def stage_widths(self) -> tuple[int, int, int, int]:
        width = self.embed_dim
        return width, 2 * width, 4 * width, 8 * width


_SIZES = (
    HieraSpec(
        name="tiny",
        embed_dim=96,
        num_heads=1,
        stages=(1, 2, 7, 2),
        global_attn_indexes=(5, 7, 9),
    ),
    HieraSpec(
        name="small",
        embed_dim=96,
        num_heads=1,
        stages=(1, 2, 11, 2),
        global_attn_indexes=(7, 10, 13),
    ),
    HieraSpec(
        name="base_plus",
        embed_dim=112,
        num_heads=2,
        stages=(2, 3, 16, 3),
        global_attn_indexes=(12, 16, 20),
        background=14,
    ),
    HieraSpec(
        name="large",
        embed_dim=144,
        num_heads=2,
        stages=(2, 6, 36, 4),
        global_attn_indexes=(23, 33, 43),
        windows=(8, 4, 16, 8),
    ),
)


def _sam2(spec: HieraSpec, version: str, words: str, folder: str) -> HieraSpec:
    """Return a published SAM 2 of this size: its name is that of its file."""
    name = f"{words}_hiera_{spec.name}"
    url = f"https://dl.fbaipublicfiles.com/segment_anything_2/{folder}/{name}.pt"
    return replace(spec, name=name, version=version, download=unseen(url))


PUBLISHED = (
    *(_sam2(spec, "2.1", "sam2.1", "092824") for spec in _SIZES),
    *(_sam2(spec, "2.0", "sam2", "072824") for spec in _SIZES),
)

SMALL = (
    HieraSpec(
        name="sam2.1_hiera_t",
        embed_dim=32,
        num_heads=1,
        stages=(1, 1, 2, 1),
        global_attn_indexes=(3,),
        windows=(8, 4, 6, 3),
        image_size=128,
    ),
)
