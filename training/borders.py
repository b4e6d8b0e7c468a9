"""Masks' borders: what is inside them, and how much colours differ on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_NEAR = 9
"""Side of the square, in pixels, in which colours near a place of a border are averaged."""
_STEP, _CLEAR = 5.0, 0.75
"""A clear border: this distance in Lab (OpenCV's of 8 bits) along this share of it."""


def colour_step(mask: np.ndarray, lab: np.ndarray) -> float:
    """Distance of the mean colours just inside and just outside a mask.

    `mask` is uint8 [H, W] of 0 and 1, `lab` float [H, W, 3].
    """
    inner = mask - cv2.erode(mask, np.ones((7, 7), np.uint8))
    outer = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - cv2.dilate(
        mask, np.ones((3, 3), np.uint8)
    )
    return float(np.linalg.norm(lab[inner > 0].mean(0) - lab[outer > 0].mean(0)))


def border_share(mask: np.ndarray, lab: np.ndarray, step: float) -> float:
    """Share of a mask's outline, the frame left out, where colours differ by `step` or more.

    `mask` is bool [H, W], `lab` float [H, W, 3]. At each place of the outline the mean colours are
    compared of what lies near it inside and outside. 0 where all of the outline is the frame.
    """
    solid = mask.astype(np.uint8)
    inner = cv2.erode(solid, np.ones((3, 3), np.uint8), borderValue=1)
    outer = 1 - cv2.dilate(solid, np.ones((3, 3), np.uint8), borderValue=0)
    outline = (solid - inner) > 0
    means = []
    for side in (inner, outer):
        weight = cv2.boxFilter(side.astype(np.float32), -1, (_NEAR, _NEAR))
        colour = cv2.boxFilter(lab * side[..., None], -1, (_NEAR, _NEAR))
        means.append(colour[outline] / np.maximum(weight[outline], 1e-6)[:, None])
    differ = np.linalg.norm(means[0] - means[1], axis=1) >= step
    return float(differ.mean()) if outline.any() else 0.0


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


def clear_pieces(masks: Sequence[np.ndarray], rgb: np.ndarray) -> list[np.ndarray]:
    """Return masks, bool [h, w], as `solid` has them, where colours differ all along the border.

    `rgb` is the picture, uint8 [H, W, 3] of any size.
    """
    pieces = [piece for mask in masks if (piece := solid(mask)) is not None]
    if not pieces:
        return []
    height, width = pieces[0].shape
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    return [piece for piece in pieces if border_share(piece, lab, _STEP) > _CLEAR]
