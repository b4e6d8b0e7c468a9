"""Specks and holes: parts of a mask that are small on the scale of its low-res logits.

A decoder gives a logit for each cell of M x M, and single cells that are wrong become islands and
holes of many pixels. SAM 2's predictor removes them at this scale too (`SAM2Transforms`,
`max_hole_area` and `max_sprinkle_area`), by a fixed large logit; here a logit is mirrored at the
threshold, so that the mask's edge is as sharp or as soft as it was.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.preparation.frame import Frame
from samtrt.types import BoolArray

_LEAST = 0.1  # logit that what was changed has at least; SAM's own are up to about 20


def without_specks(
    logits: npt.NDArray[np.float32], frame: Frame, threshold: float, least: int
) -> npt.NDArray[np.float32]:
    """Turn islands and holes of fewer than `least` cells of low-res logits [M, M] around.

    The largest island always stays. What lies beyond the image, as padding, counts as background.
    Returns `logits` itself where nothing changes.
    """
    side, (height, width) = frame.mask_square
    rows, columns = (-(-length * frame.mask_size // side) for length in (height, width))
    shown = logits[:rows, :columns]
    changed = specks_of(shown > threshold, least)
    if changed is None:
        return logits
    mirrored = 2 * np.float32(threshold) - shown
    least_logit = np.where(shown > threshold, threshold - _LEAST, threshold + _LEAST)
    further = np.where(
        shown > threshold, np.minimum(mirrored, least_logit), np.maximum(mirrored, least_logit)
    )
    result = logits.copy()
    result[:rows, :columns] = np.where(changed, further, shown)
    return result


def specks_of(mask: BoolArray, least: float) -> BoolArray | None:
    """Return which pixels of a mask [H, W] are of islands and holes with fewer than `least`.

    Regions are 8-connected. A hole is enclosed by the mask: what reaches the edge is none. The
    largest island is never a speck. Islands in a hole that is filled go with it. None for none.
    """
    if not least or not mask.any():
        return None
    framed = np.pad(mask, 1)
    kept = _kept(framed, least, the_largest=True)
    whole = _kept(~kept, least, the_largest=False)  # of the background, with the outside
    changed = np.asarray((~whole ^ framed)[1:-1, 1:-1])
    return changed if changed.any() else None


def _kept(mask: BoolArray, least: float, *, the_largest: bool) -> BoolArray:
    """Return a mask's regions of at least `least` pixels, with the outside's at the corner."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= least
    kept[0] = False
    if the_largest and count > 1:
        kept[1 + int(areas[1:].argmax())] = True
    if mask[0, 0]:
        kept[labels[0, 0]] = True
    return np.asarray(kept[labels])


def cell_area(frame: Frame) -> float:
    """Return how many pixels of a frame's image a cell of its low-res logits covers."""
    side, (height, width) = frame.mask_square
    cell = side / frame.mask_size
    return cell * cell * (frame.original[0] / height) * (frame.original[1] / width)
