"""The models that samtrt knows: what each is made of, and where its official checkpoint lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from samtrt.choices import Family, Generation, MaskChoice
from samtrt.errors import CheckpointError
from samtrt.feature_maps import IMAGE_EMBEDDINGS, FeatureMap
from samtrt.preparation.spec import OFFICIAL, SAM2, Preparation

MASK_THRESHOLD = 0.0
"""Logits above it are mask (official `Sam.mask_threshold`)."""


HQ_FEATURES = "hq_features"
"""Name of the map that SAM-HQ's decoder takes beside the image embedding."""

FINE_MAPS = ("high_res_features_s0", "high_res_features_s1")
"""Names of the maps that SAM 2's decoder takes beside the image embedding, the finest first."""


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
SAM2_THRESHOLDS = MaskThresholds(pred_iou=0.8)
"""Defaults of the official `SAM2AutomaticMaskGenerator`."""


@dataclass(frozen=True)
class Download:
    """A published file and what it must be.

    Attributes:
        url: Where it lies.
        size: Its bytes; None where we have not seen the file.
        sha256: What it hashes to; None where we have not seen the file.
        licence: Of the weights.
    """

    url: str
    size: int | None
    sha256: str | None
    licence: str


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ABC):
    """Every number that fixes a SAM's shape, and how its images are prepared.

    The prompt encoder and mask decoder are the same in all families; a subclass has the numbers of
    its family's image encoder.

    Attributes:
        name: As users call it.
        image_size: Side of the square in which prompts are given and masks are formed.
        input_size: Side of the encoder's input; None for `image_size`.
        patch_size: How many pixels of `image_size` a cell of the image embedding is wide.
        prompt_embed_dim: Channels of the image embedding and of prompts.
        hq: Whether its decoder has SAM-HQ's token, and takes features of an early block too
            (Ke et al., 2023; `mask_decoder_hq.py`).
        preparation: How images become the encoder's input.
        thresholds: Of automatic masks, where the user asks for none.
        download: Where the official checkpoint lies.
    """

    name: str
    image_size: int = 1024
    input_size: int | None = None
    patch_size: int = 16
    prompt_embed_dim: int = 256
    hq: bool = False
    preparation: Preparation = OFFICIAL
    thresholds: MaskThresholds = OFFICIAL_THRESHOLDS
    download: Download | None = None

    @property
    @abstractmethod
    def family(self) -> Family:
        """Which image encoder it has."""

    @property
    @abstractmethod
    def early_dim(self) -> int:
        """Channels of the early features that a decoder of SAM-HQ takes."""

    @property
    def decoder_epsilon(self) -> float:
        """Of the norms in the mask decoder's transformer."""
        return 1e-5

    @property
    def embedding_size(self) -> int:
        """Height and width of the image embedding, in patches."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Height and width of low-res logits and of the mask input."""
        return 4 * self.embedding_size

    @property
    def encoder_size(self) -> int:
        """Side of the encoder's input, in pixels."""
        return self.input_size or self.image_size

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
    def generation(self) -> Generation:
        """How prompts are completed and masks are formed."""
        return Generation.SAM

    @property
    def object_scores(self) -> bool:
        """Whether the decoder tells if there is an object at all."""
        return False


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


@dataclass(frozen=True, kw_only=True)
class HieraSpec(ModelSpec):
    """SAM 2's encoder, and that its decoder takes finer features too (Ravi et al., 2024).

    Source: the YAML files of `sam2/configs`.

    Attributes:
        embed_dim: Width of the first stage; each further stage has twice the width and the heads.
        num_heads: Of the first stage.
        stages: Blocks of each stage.
        global_attn_indexes: Blocks that attend to the whole image.
        windows: Tokens along a side of a window, for each stage.
        background: Height and width of the coarse table of positions.
        version: Of SAM 2, which is what the modules for video are of; None for a model without.
    """

    embed_dim: int
    num_heads: int
    stages: tuple[int, int, int, int]
    global_attn_indexes: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7
    version: str | None = "2.1"
    preparation: Preparation = SAM2
    thresholds: MaskThresholds = SAM2_THRESHOLDS

    @property
    def family(self) -> Family:
        return Family.HIERA

    @property
    def early_dim(self) -> int:
        return 4 * self.embed_dim

    @property
    def maps(self) -> tuple[FeatureMap, ...]:
        channels, mask = self.prompt_embed_dim, self.mask_size
        fine, middle = FINE_MAPS
        return (
            *super().maps,
            FeatureMap(fine, (channels // 8, mask, mask)),
            FeatureMap(middle, (channels // 4, mask // 2, mask // 2)),
        )

    @property
    def mask_choice(self) -> MaskChoice:
        return MaskChoice.STABLE

    @property
    def generation(self) -> Generation:
        return Generation.SAM2

    @property
    def object_scores(self) -> bool:
        return True


_OFFICIAL = "https://dl.fbaipublicfiles.com/segment_anything/"
_EFFICIENTVIT = "https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/"
_HQ = "https://huggingface.co/lkeab/hq-sam/resolve/main/"


def _unseen(url: str) -> Download:
    """Return a published file under Apache-2.0 whose size and hash we have not seen."""
    return Download(url=url, size=None, sha256=None, licence="Apache-2.0")


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

_HIERAS = (
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
    return replace(spec, name=name, version=version, download=_unseen(url))


_SPECS: tuple[ModelSpec, ...] = (
    *_VITS,
    *(
        replace(
            spec,
            name=f"sam_hq_{spec.name}",
            hq=True,
            download=_unseen(f"{_HQ}sam_hq_{spec.name}.pth"),
        )
        for spec in _VITS
    ),
    TinyViTSpec(
        name="mobile_sam",
        download=_unseen(
            "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt"
        ),
    ),
    TinyViTSpec(
        name="sam_hq_vit_tiny",
        hq=True,
        download=_unseen(_HQ + "sam_hq_vit_tiny.pth"),
    ),
    *(
        EfficientViTSpec(
            name=f"efficientvit_sam_{name}",
            input_size=512,
            depths=depths,
            neck_depth=neck_depth,
            download=_unseen(f"{_EFFICIENTVIT}efficientvit_sam_{name}.pt"),
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
            download=_unseen(f"{_EFFICIENTVIT}efficientvit_sam_{name}.pt"),
        )
        for name, depths, neck_depth in (
            ("xl0", (0, 1, 1, 2, 3, 3), 6),
            ("xl1", (1, 2, 2, 4, 6, 6), 12),
        )
    ),
    *(_sam2(spec, "2.1", "sam2.1", "092824") for spec in _HIERAS),
    *(_sam2(spec, "2.0", "sam2", "072824") for spec in _HIERAS),
    # Small and fixed: what demos and tests use. vit_s is the shape of the project's own checkpoint;
    # those that end in _t are for tests that only need the structure.
    ViTSpec(
        name="vit_s",
        embed_dim=256,
        depth=8,
        num_heads=4,
        global_attn_indexes=(1, 3, 5, 7),
        image_size=512,
        thresholds=MaskThresholds(0.65, 0.90),  # measured: docs/model-card.md
    ),
    ViTSpec(
        name="vit_t",
        embed_dim=64,
        depth=4,
        num_heads=2,
        global_attn_indexes=(1, 3),
        image_size=256,
    ),
    TinyViTSpec(
        name="mobile_sam_t",
        widths=(16, 32, 48, 64),
        depths=(1, 1, 2, 1),
        heads=(1, 2, 2),
        image_size=256,
    ),
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

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def get_spec(name: str) -> ModelSpec:
    """Return the spec called `name`; raise `CheckpointError` that lists the known names."""
    try:
        return MODELS[name]
    except KeyError:
        raise CheckpointError(
            f"unknown model '{name}'; known models: {', '.join(MODELS)}"
        ) from None
