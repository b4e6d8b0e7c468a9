"""What fixes a model's shape, whichever family it is of, and where its checkpoint lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from samtrt.choices import Family, Generation, MaskChoice
from samtrt.feature_maps import IMAGE_EMBEDDINGS, FeatureMap
from samtrt.preparation.spec import OFFICIAL, Preparation

HQ_URL = "https://huggingface.co/lkeab/hq-sam/resolve/main/"
"""Where SAM-HQ's checkpoints lie, of every family that has some."""

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


def unseen(url: str) -> Download:
    """Return a published file under Apache-2.0 whose size and hash we have not seen."""
    return Download(url=url, size=None, sha256=None, licence="Apache-2.0")


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
