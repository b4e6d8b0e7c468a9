"""Masks of objects as a video shows them: at its size, without holes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from samtrt.masks.axes import resize
from samtrt.types import Size
from samtrt.video.memories import Floats


def at_size(masks: Sequence[Floats], size: Size) -> Floats:
    """Bring low-res logits to the video's size: [N, 1, H, W]."""
    if not masks:
        return np.zeros((0, 1, *size), np.float32)
    return np.stack([resize(np.ascontiguousarray(one), size) for one in masks])[:, None]


def fill_holes(logits: Floats, area: int) -> Floats:
    """Fill holes of up to `area` cells in a mask (official `fill_holes_in_mask_scores`)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (logits <= 0).astype(np.uint8), connectivity=8
    )
    small = stats[:, cv2.CC_STAT_AREA] <= area
    small[0] = False  # the mask itself
    return np.where(small[labels], np.float32(0.1), logits)
