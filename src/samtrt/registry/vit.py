"""The official SAM, and what has its encoder: SAM-HQ, and the small checkpoint of our own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from samtrt.choices import Family
from samtrt.registry.spec import HQ_URL, Download, MaskThresholds, ModelSpec, unseen

_OFFICIAL = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True, kw_only=True)
class ViTSpec(ModelSpec):
    """The official SAM's encoder: a ViT with windows.

    Sources: `segment_anything/build_sam.py` and section A of the paper (Kirillov et al., 2023).
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]
    window_size: int = 14
    mlp_ratio: float = 4.0

    @property
    def family(self) -> Family:
        return Family.VIT

    @property
    def early_dim(self) -> int:
        return self.embed_dim

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads


_VITS = (
    ViTSpec(
        name="vit_b",
        embed_dim=768,
        depth=12,
        num_heads=12,
        global_attn_indexes=(2, 5, 8, 11),
        download=Download(
            url=_OFFICIAL + "sam_vit_b_01ec64.pth",
            size=375042383,
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            licence="Apache-2.0",
        ),
    ),
    ViTSpec(
        name="vit_l",
        embed_dim=1024,
        depth=24,
        num_heads=16,
        global_attn_indexes=(5, 11, 17, 23),
        download=Download(
            url=_OFFICIAL + "sam_vit_l_0b3195.pth",
            size=1249524607,
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            licence="Apache-2.0",
        ),
    ),
    ViTSpec(
        name="vit_h",
        embed_dim=1280,
        depth=32,
        num_heads=16,
        global_attn_indexes=(7, 15, 23, 31),
        download=Download(
            url=_OFFICIAL + "sam_vit_h_4b8939.pth",
            size=2564550879,
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            licence="Apache-2.0",
        ),
    ),
)

PUBLISHED = (
    *_VITS,
    *(
        replace(
            spec,
            name=f"sam_hq_{spec.name}",
            hq=True,
            download=unseen(f"{HQ_URL}sam_hq_{spec.name}.pth"),
        )
        for spec in _VITS
    ),
)

# vit_s is the shape of the checkpoint that comes with samtrt; vit_t has the structure alone.
SMALL = (
    ViTSpec(
        name="vit_s",
        embed_dim=256,
        depth=12,
        num_heads=4,
        global_attn_indexes=(2, 5, 8, 11),
        thresholds=MaskThresholds(0.60, 0.90),  # measured: docs/model-card.md
    ),
    ViTSpec(
        name="vit_t",
        embed_dim=64,
        depth=4,
        num_heads=2,
        global_attn_indexes=(1, 3),
        image_size=256,
    ),
)
