"""The models that samtrt knows: what each is made of, and where its official checkpoint lies."""

from __future__ import annotations

from dataclasses import dataclass

from samtrt.choices import MaskChoice
from samtrt.errors import CheckpointError
from samtrt.preparation.spec import OFFICIAL, Preparation
from samtrt.types import IMAGE_EMBEDDINGS, FeatureMap

MASK_THRESHOLD = 0.0
"""Logits above it are mask (official `Sam.mask_threshold`)."""


HQ_FEATURES = "hq_features"
"""Name of the map that SAM-HQ's decoder takes beside the image embedding."""


@dataclass(frozen=True)
class MaskThresholds:
    """Which automatic masks a model's scores are worth keeping, where the user does not say.

    Attributes:
        pred_iou: Predicted IoU that a mask must exceed, 0..1.
        stability: Stability score that it must reach, 0..1.
    """

    pred_iou: float = 0.88
    stability: float = 0.95


OFFICIAL_THRESHOLDS = MaskThresholds()
"""Defaults of the official `SamAutomaticMaskGenerator`, made for the official checkpoints."""


@dataclass(frozen=True)
class Download:
    """A published file and what it must hash to."""

    url: str
    size: int  # bytes
    sha256: str
    licence: str


@dataclass(frozen=True)
class ModelSpec:
    """Every number that fixes a SAM's shape.

    The prompt encoder and mask decoder are the same in all published sizes; the encoder's width
    and depth are what differs. Sources: `segment_anything/build_sam.py` and section A of the
    paper (Kirillov et al., 2023).

    Attributes:
        hq: Whether its decoder has SAM-HQ's token, and takes features of an early block too
            (Ke et al., 2023; `mask_decoder_hq.py`).
    """

    name: str
    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]
    image_size: int = 1024
    patch_size: int = 16
    window_size: int = 14
    mlp_ratio: float = 4.0
    prompt_embed_dim: int = 256
    hq: bool = False
    preparation: Preparation = OFFICIAL
    thresholds: MaskThresholds = OFFICIAL_THRESHOLDS
    download: Download | None = None

    @property
    def embedding_size(self) -> int:
        """Height and width of the image embedding, in patches."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Height and width of low-res logits and of the mask input."""
        return 4 * self.embedding_size

    @property
    def maps(self) -> tuple[FeatureMap, ...]:
        """What flows from encoder to decoder."""
        channels, grid, mask = self.prompt_embed_dim, self.embedding_size, self.mask_size
        embedding = FeatureMap(IMAGE_EMBEDDINGS, (channels, grid, grid))
        if not self.hq:
            return (embedding,)
        return (embedding, FeatureMap(HQ_FEATURES, (channels // 8, mask, mask)))

    @property
    def mask_choice(self) -> MaskChoice:
        """Which of the decoder's masks answer a prompt."""
        return MaskChoice.BEST if self.hq else MaskChoice.SAM

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads


_OFFICIAL = "https://dl.fbaipublicfiles.com/segment_anything/"

_SPECS = (
    ModelSpec(
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
    ModelSpec(
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
    ModelSpec(
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
    # Small and fixed: what demos and tests use. vit_s is the shape of the project's own checkpoint;
    # vit_t is for tests that only need the structure.
    ModelSpec(
        name="vit_s",
        embed_dim=256,
        depth=8,
        num_heads=4,
        global_attn_indexes=(1, 3, 5, 7),
        image_size=512,
        thresholds=MaskThresholds(0.65, 0.90),  # measured: docs/model-card.md
    ),
    ModelSpec(
        name="vit_t",
        embed_dim=64,
        depth=4,
        num_heads=2,
        global_attn_indexes=(1, 3),
        image_size=256,
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def get_spec(name: str) -> ModelSpec:
    """Return the spec called `name`; raise `CheckpointError` that lists the known names."""
    try:
        return MODELS[name]
    except KeyError:
        raise CheckpointError(
            f"unknown model '{name}'; known models: {', '.join(MODELS)}"
        ) from None
