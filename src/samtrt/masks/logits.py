"""Masks: from low-res logits to the original size and back, and their compact forms."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.errors import PromptError
from samtrt.masks.upscaling import upscale_one
from samtrt.preparation.frame import Frame
from samtrt.types import BoolArray

PROMPT_LOGIT = 10.0
"""Magnitude given to a binary mask used as a prompt; the model's own logits reach about 20."""


def upscale_logits(logits: npt.NDArray[np.float32], frame: Frame) -> npt.NDArray[np.float32]:
    """Bring low-res logits [..., M, M] to the original size: float32 [..., H, W]."""
    out = np.empty((*logits.shape[:-2], *frame.original), dtype=np.float32)
    for index in np.ndindex(logits.shape[:-2]):
        out[index] = upscale_one(logits[index], frame)
    return out


def upscale_masks(logits: npt.NDArray[np.float32], frame: Frame, threshold: float) -> BoolArray:
    """Bring low-res logits [..., M, M] to boolean masks [..., H, W], one at a time.

    Args:
        logits: As the decoder gives them.
        frame: Of the image.
        threshold: Logits above it are mask: `Manifest.mask_threshold`.
    """
    out = np.empty((*logits.shape[:-2], *frame.original), dtype=np.bool_)
    plane = np.empty(frame.original, dtype=np.float32)  # all in one, which stays in the cache
    for index in np.ndindex(logits.shape[:-2]):
        np.greater(upscale_one(logits[index], frame, out=plane), threshold, out[index])
    return out


def logits_from_mask(mask: BoolArray, frame: Frame) -> npt.NDArray[np.float32]:
    """Turn a binary mask [H, W] of the frame's image into a mask prompt: float32 [1, M, M].

    The mask is averaged down to the low-res frame; full coverage becomes +10, none (and the
    padding) -10.

    Raises:
        PromptError: for an empty mask, which asks for nothing.
    """
    if not mask.any():
        raise PromptError("the mask prompt is empty: none of its pixels is set")
    height, width = frame.resized
    padded = np.zeros((frame.image_size, frame.image_size), dtype=np.float32)
    # In the order that OpenCV wants: it would make a copy, of four bytes a pixel, of any other.
    values = np.ascontiguousarray(mask, dtype=np.float32)
    padded[:height, :width] = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    coverage = cv2.resize(padded, (frame.mask_size, frame.mask_size), interpolation=cv2.INTER_AREA)
    return ((2 * coverage - 1) * PROMPT_LOGIT)[None].astype(np.float32)


def box_of_mask(mask: BoolArray) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of a mask [H, W], the COCO form; zeros for an empty mask."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    x, y = int(cols[0]), int(rows[0])
    return x, y, int(cols[-1]) - x + 1, int(rows[-1]) - y + 1


def mask_iou(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return intersection over union of two boolean masks; 1.0 where both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0
