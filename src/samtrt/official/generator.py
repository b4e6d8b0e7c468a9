"""`SamAutomaticMaskGenerator`, with the official arguments, defaults and records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.automatic.records import OutputMode
from samtrt.official.model import SamModel, as_model
from samtrt.registry import OFFICIAL_THRESHOLDS


class SamAutomaticMaskGenerator(AutomaticMaskGenerator):
    """Finds masks of everything, as `segment_anything.SamAutomaticMaskGenerator` does."""

    def __init__(
        self,
        model: SamModel | str | Path,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = OFFICIAL_THRESHOLDS.pred_iou,
        stability_score_thresh: float = OFFICIAL_THRESHOLDS.stability,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[npt.NDArray[np.floating]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
    ) -> None:
        """Take a model as `SamPredictor` does; all else as `AutomaticMaskGenerator`."""
        super().__init__(
            as_model(model).predictor,
            points_per_side,
            points_per_batch,
            pred_iou_thresh,
            stability_score_thresh,
            stability_score_offset,
            box_nms_thresh,
            crop_n_layers,
            crop_nms_thresh,
            crop_overlap_ratio,
            crop_n_points_downscale_factor,
            point_grids,
            min_mask_region_area,
            output_mode,
        )
