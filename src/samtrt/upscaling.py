"""Full-size masks of many candidates: only the part of each that can hold mask is formed.

Bringing low-res logits L [M, M] to the original size resizes bilinearly twice (official
`Sam.postprocess_masks`: to S x S, cut off the padding, to H x W). Both steps are linear and
separable, so the result is `Y @ L @ X.T` with a matrix for each axis that holds at most three
weights a row. Two things follow. A rectangle of the result needs a rectangle of L alone; and each
pixel lies between the least and the greatest of at most 3 x 3 cells of L, which bounds how many
pixels can exceed a threshold without forming any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.transforms import resized_size
from samtrt.types import BoolArray, Size

_CELLS_PER_BLOCK = 16
"""Low-res cells in one product: the matrices are banded, so long products would multiply zeros."""


class Region(NamedTuple):
    """A rectangle of a full-size array, transposed: RLE runs down the columns.

    Attributes:
        x, y: Its left column and top row.
        values: float32 [w, h].
    """

    x: int
    y: int
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Axis:
    """One axis of the resize, n pixels from M cells.

    Attributes:
        weights: float32 [n, M].
        first, last: int [n], the cells that a pixel draws on; both never decrease.
        share: float32 [M], for each cell the number of pixels whose cells are among it and its
            two neighbours; every pixel is counted once.
    """

    weights: npt.NDArray[np.float32]
    first: npt.NDArray[np.intp]
    last: npt.NDArray[np.intp]
    share: npt.NDArray[np.float32]

    @classmethod
    def build(cls, pixels: int, resized: int, image_size: int, cells: int) -> _Axis:
        to_frame = _bilinear(image_size, cells)[:resized]
        weights = _bilinear(pixels, resized) @ to_frame
        used = weights > 0
        first = used.argmax(axis=1)
        last = cells - 1 - used[:, ::-1].argmax(axis=1)
        centre = (first + last) // 2
        share = np.bincount(centre, minlength=cells).astype(np.float32)
        return cls(weights.astype(np.float32), first, last, share)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of pixels that draw on any of the cells start..stop."""
        return int(np.searchsorted(self.last, start)), int(np.searchsorted(self.first, stop))


def _bilinear(n_out: int, n_in: int) -> npt.NDArray[np.float64]:
    """Return the matrix [n_out, n_in] of `interpolate(mode="bilinear", align_corners=False)`."""
    source = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    low = source.astype(np.intp)
    weight = source - low
    rows = np.arange(n_out)
    matrix = np.zeros((n_out, n_in))
    matrix[rows, low] = 1 - weight
    matrix[rows, np.minimum(low + 1, n_in - 1)] += weight
    return matrix


class Upscaler:
    """Brings low-res logits [M, M] to one original size, as `masks.upscale_one`, in part."""

    def __init__(self, original: Size, image_size: int, mask_size: int) -> None:
        height, width = resized_size(original, image_size)
        self.original = original
        self._y = _Axis.build(original[0], height, image_size, mask_size)
        self._x = _Axis.build(original[1], width, image_size, mask_size)

    def region_above(self, logits: npt.NDArray[np.float32], threshold: float) -> Region:
        """Form a rectangle outside of which no full-size value exceeds `threshold`.

        The rectangle has no pixels where nothing exceeds it anywhere.
        """
        valid = logits[: self._y.last[-1] + 1, : self._x.last[-1] + 1] > threshold
        rows, cols = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        empty = Region(0, 0, np.empty((0, 0), dtype=np.float32))
        if not len(rows):
            return empty
        y0, y1 = self._y.reach(int(rows[0]), int(rows[-1]) + 1)
        x0, x1 = self._x.reach(int(cols[0]), int(cols[-1]) + 1)
        if y0 == y1 or x0 == x1:  # in a small image, there are cells that no pixel draws on
            return empty
        return Region(x0, y0, self._values(logits, (y0, y1), (x0, x1)))

    def _values(
        self, logits: npt.NDArray[np.float32], ys: tuple[int, int], xs: tuple[int, int]
    ) -> npt.NDArray[np.float32]:
        left, right = int(self._x.first[xs[0]]), int(self._x.last[xs[1] - 1]) + 1
        columns = np.ascontiguousarray(logits[:, left:right].T)
        stretched = np.empty((right - left, ys[1] - ys[0]), dtype=np.float32)
        for y0, y1, k0, k1 in _blocks(self._y, *ys):
            rows = self._y.weights[y0:y1, k0:k1]
            np.matmul(columns[:, k0:k1], rows.T, out=stretched[:, y0 - ys[0] : y1 - ys[0]])
        values = np.empty((xs[1] - xs[0], ys[1] - ys[0]), dtype=np.float32)
        for x0, x1, k0, k1 in _blocks(self._x, *xs):
            cols = self._x.weights[x0:x1, k0:k1]
            np.matmul(cols, stretched[k0 - left : k1 - left], out=values[x0 - xs[0] : x1 - xs[0]])
        return values

    def at_most(self, mask: BoolArray) -> float:
        """Bound from above the full-size pixels that exceed a threshold, from L > threshold."""
        return self._count(cv2.dilate(mask.astype(np.uint8), _NEIGHBOURS))

    def at_least(self, mask: BoolArray) -> float:
        """Bound from below the full-size pixels that exceed a threshold, from L > threshold."""
        return self._count(cv2.erode(mask.astype(np.uint8), _NEIGHBOURS))

    def _count(self, cells: npt.NDArray[np.generic]) -> float:
        return float(self._y.share @ cells.astype(np.float32) @ self._x.share)


_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)


def _blocks(axis: _Axis, start: int, stop: int) -> list[tuple[int, int, int, int]]:
    """Cut the pixels start..stop into blocks: (first pixel, end, first cell, end)."""
    cells = axis.last[stop - 1] + 1 - axis.first[start]
    step = -(-(stop - start) * _CELLS_PER_BLOCK // max(int(cells), _CELLS_PER_BLOCK))
    return [
        (i, end, int(axis.first[i]), int(axis.last[end - 1]) + 1)
        for i in range(start, stop, step)
        for end in [min(i + step, stop)]
    ]
