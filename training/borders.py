"""Masks' borders: what is inside them, and how much colours differ on both sides."""

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


def solid(mask: np.ndarray) -> np.ndarray | None:
    """The largest piece of a mask without its holes, None where that is not most of it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    outline = max(contours, key=cv2.contourArea)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), [outline], 0, 1, -1) > 0
    if (mask & filled).sum() < 0.9 * mask.sum():
        return None
    # Small holes are gaps between views; a large one is a part of the shape.
    holes = filled & ~mask
    return filled if holes.sum() < 0.1 * filled.sum() else mask & filled
