"""Where automatic masks are asked for: grids of points, and crops of the image.

Formulas follow the official `utils/amg.py`.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import numpy.typing as npt

from samtrt.types import Size

CropBox = tuple[int, int, int, int]
"""x1, y1, x2, y2 in image pixels; x2 and y2 are outside."""

EDGE_MARGIN = 20.0
"""Pixels from a crop's edge within which a mask's box counts as cut off by it."""


def point_grid(points_per_side: int) -> npt.NDArray[np.float64]:
    """Return the centres of an n x n grid over the unit square, row by row: [n * n, 2], XY."""
    offset = 1 / (2 * points_per_side)
    side = np.linspace(offset, 1 - offset, points_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def layered_point_grids(
    points_per_side: int, layers: int, downscale: int
) -> list[npt.NDArray[np.float64]]:
    """Return the grid of each crop layer, the whole image's first; each is `downscale` coarser."""
    return [point_grid(points_per_side // downscale**layer) for layer in range(layers + 1)]


def crop_boxes(size: Size, layers: int, overlap_ratio: float) -> list[tuple[CropBox, int]]:
    """Return the whole image and, for layer i >= 1, 2^i x 2^i overlapping crops.

    Args:
        size: (height, width) of the image.
        layers: How many layers beside the image itself.
        overlap_ratio: Overlap of layer 1 as a share of the shorter side; it halves with each layer.

    Returns:
        Each crop and its layer. Together the crops of a layer cover the image.
    """
    height, width = size
    boxes: list[tuple[CropBox, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / per_side))
        crop_w = math.ceil((overlap * (per_side - 1) + width) / per_side)
        crop_h = math.ceil((overlap * (per_side - 1) + height) / per_side)
        lefts = [(crop_w - overlap) * i for i in range(per_side)]
        tops = [(crop_h - overlap) * i for i in range(per_side)]
        boxes += [
            ((x, y, min(x + crop_w, width), min(y + crop_h, height)), layer)
            for x, y in product(lefts, tops)
            if x < width and y < height  # rounding up may need fewer crops of a tiny image
        ]
    return boxes


def touches_crop_edge(box: tuple[int, int, int, int], crop: CropBox, size: Size) -> bool:
    """Tell whether a box, in image pixels, ends near a crop's edge that is not the image's."""
    whole = (0, 0, size[1], size[0])
    return any(
        abs(side - cut) <= EDGE_MARGIN and abs(side - end) > EDGE_MARGIN
        for side, cut, end in zip(box, crop, whole, strict=True)
    )
