"""How much colours differ on both sides of a mask's border."""

from __future__ import annotations

import cv2
import numpy as np


def colour_step(mask: np.ndarray, lab: np.ndarray) -> float:
    """Distance of the mean colours just inside and just outside a mask.

    `mask` is uint8 [H, W] of 0 and 1, `lab` float [H, W, 3].
    """
    inner = mask - cv2.erode(mask, np.ones((7, 7), np.uint8))
    outer = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - cv2.dilate(
        mask, np.ones((3, 3), np.uint8)
    )
    return float(np.linalg.norm(lab[inner > 0].mean(0) - lab[outer > 0].mean(0)))
