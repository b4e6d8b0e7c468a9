"""Masks as polygons, through the centres of their outermost pixels.

Filling such a polygon together with its outline (OpenCV's `fillPoly`, Pillow's `polygon`) gives
back the part of the mask it goes around. Holes are lost: neither labelme's nor YOLO's polygons can
have any.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.masks.logits import box_of_mask
from samtrt.types import BoolArray

Polygon = npt.NDArray[np.int32]
"""[N, 2], XY in pixels, N >= 3; the last point joins the first."""


def polygons_of(mask: BoolArray) -> list[Polygon]:
    """Return the outline of each part of a mask [H, W], the largest first."""
    x, y, width, height = box_of_mask(mask)
    part = np.ascontiguousarray(mask[y : y + height, x : x + width], dtype=np.uint8)
    if not part.size:
        return []
    contours, _ = cv2.findContours(
        part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(int(x), int(y))
    )
    found = sorted(contours, key=cv2.contourArea, reverse=True)
    # A part of one or two pixels has fewer corners than readers accept: say the last one again.
    return [
        np.pad(corners, ((0, max(3 - len(corners), 0)), (0, 0)), mode="edge")
        for corners in (np.asarray(contour, dtype=np.int32).reshape(-1, 2) for contour in found)
    ]


def join_polygons(polygons: Sequence[Polygon]) -> Polygon:
    """Make one polygon of several, by bridges of no width between the nearest corners.

    Filled, the bridges add lines one pixel wide.
    """
    joined = polygons[0]
    for polygon in polygons[1:]:
        squares = ((joined[:, None].astype(np.int64) - polygon[None]) ** 2).sum(axis=2)
        at, start = np.unravel_index(int(squares.argmin()), squares.shape)
        loop = np.roll(polygon, -int(start), axis=0)
        joined = np.concatenate([joined[: at + 1], loop, loop[:1], joined[at:]])
    return joined
