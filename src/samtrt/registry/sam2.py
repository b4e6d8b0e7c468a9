"""What SAM 2 and the models made of it share, whichever image encoder they have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from samtrt.choices import Generation, MaskChoice
from samtrt.feature_maps import FeatureMap
from samtrt.preparation.spec import SAM2, Preparation
from samtrt.registry.spec import MaskThresholds, ModelSpec

FINE_MAPS = ("high_res_features_s0", "high_res_features_s1")
"""Names of the maps that SAM 2's decoder takes beside the image embedding, the finest first."""

SAM2_THRESHOLDS = MaskThresholds(pred_iou=0.8)
"""Defaults of the official `SAM2AutomaticMaskGenerator`."""


@dataclass(frozen=True, kw_only=True)
class Sam2Spec(ModelSpec, ABC):
    """A model whose decoder takes finer features too, and which may follow objects through videos.

    Attributes:
        version: Of SAM 2, which is what the modules for video are of; None for a model without.
        memory_layers: Of the attention to memories.
        latents: Tokens that a memory is made of which see the whole image; 0 where a memory is
            neither of such tokens nor of `latents_2d`, but has one token a cell of the image.
        latents_2d: Further tokens of a memory, of as many squares of the image.
    """

    version: str | None = "2.1"
    memory_layers: int = 4
    latents: int = 0
    latents_2d: int = 0
    preparation: Preparation = SAM2
    thresholds: MaskThresholds = SAM2_THRESHOLDS

    @property
    @abstractmethod
    def stage_widths(self) -> tuple[int, int, int, int]:
        """Channels of the encoder's four stages, the finest first."""

    @property
    def early_dim(self) -> int:
        return self.stage_widths[2]

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
