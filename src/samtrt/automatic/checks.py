"""What settings of automatic masks are refused, before any memory is taken for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from samtrt.choices import MOST_SPECKS, Generation, MaskChoice
from samtrt.cuda.memory import Memory
from samtrt.encoding import Image
from samtrt.errors import PromptError
from samtrt.preparation.cuda import adopt
from samtrt.preparation.host import check_image
from samtrt.types import to_host

if TYPE_CHECKING:
    from samtrt.automatic.generator import AutomaticMaskGenerator

MOST_POINTS = 1_000_000
"""Points of all crops together: days of work even on a GPU."""

_FLOATS = (
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_nms_thresh",
    "crop_overlap_ratio",
)
_RANGES = {
    "points_per_side": (0, 1_000),
    "points_per_batch": (1, 4_096),
    "crop_n_layers": (0, 5),
    "crop_n_points_downscale_factor": (1, 1_000),
    "min_mask_region_area": (0, 10**9),
    "specks": (0, MOST_SPECKS),
}
"""Least and most of each."""


def check_settings(given: AutomaticMaskGenerator) -> None:
    """Raise `PromptError` where a number is out of its range or the grids do not fit the crops."""
    for name in _FLOATS:
        number = getattr(given, name)
        if number is not None and not math.isfinite(number):
            raise PromptError(f"{name} must be a finite number, not {number}")
    for name, (least, most) in _RANGES.items():
        value = getattr(given, name)
        if value is not None and not least <= value <= most:
            raise PromptError(f"{name} must be {least}..{most:,}, not {value:,}")
    _check_family(given)
    if not 0 <= given.crop_overlap_ratio < 1:
        raise PromptError("crop_overlap_ratio must be at least 0 and less than 1")
    if given.points_per_side is not None:
        points = sum(
            4**layer * (given.points_per_side // given.crop_n_points_downscale_factor**layer) ** 2
            for layer in range(given.crop_n_layers + 1)
        )
        if points > MOST_POINTS:
            raise PromptError(
                f"{given.points_per_side:,} points per side and {given.crop_n_layers} layers of "
                f"crops are {points:,} points, more than the limit of {MOST_POINTS:,}; use "
                "fewer, or a higher crop_n_points_downscale_factor"
            )
    for grid in given.grids:
        if grid.ndim != 2 or grid.shape[1] != 2 or not len(grid):
            raise PromptError(f"a grid of points must be N x 2 with N > 0, not {grid.shape}")
        if not ((grid >= 0) & (grid <= 1)).all():
            raise PromptError("the points of a grid must lie in 0..1: shares of the image")
    if len(given.grids) <= given.crop_n_layers:
        raise PromptError(
            f"{given.crop_n_layers} layers of crops need {given.crop_n_layers + 1} point grids, "
            f"not {len(given.grids)}"
        )


def _check_family(given: AutomaticMaskGenerator) -> None:
    """Raise `PromptError` for what the official generator of the model's family has not."""
    manifest = given.predictor.manifest
    if manifest.generation is Generation.SAM2:
        return
    if given.use_m2m:
        raise PromptError(
            f"use_m2m is for models of SAM 2's kind: leave it out for {manifest.model}"
        )
    if not given.multimask_output and manifest.mask_choice is not MaskChoice.BEST:
        raise PromptError(
            "one mask a point (multimask_output) is for models of SAM 2's kind and SAM-HQs: leave "
            f"it out for {manifest.model}"
        )


def checked_image(image: Image, memory: Memory | None, to_be_cut: bool) -> Image:
    """Return an image, uint8 [H, W, 3], where the encoder takes it.

    Args:
        image: On the host or, where there is `memory`, on its GPU.
        memory: Of the encoder's GPU.
        to_be_cut: Whether crops are cut from it, which the host does.

    Raises:
        ImageError: where it is not such an array.
    """
    if memory is None or isinstance(image, np.ndarray):
        return check_image(image)
    found = adopt(image, memory)
    return to_host(found) if to_be_cut else found
