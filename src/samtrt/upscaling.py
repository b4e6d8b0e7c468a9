"""Full-size masks of many candidates: only the part of each that can hold mask is formed.

Bringing low-res logits L [M, M] to the original size resizes bilinearly twice (official
`Sam.postprocess_masks`: to S x S, cut off the padding, to H x W). Both steps are linear and
separable, so the result is `Y @ L @ X.T` with a matrix for each axis that holds at most three
weights a row, side by side. Two things follow. A rectangle of the result needs a rectangle of L
alone; and each pixel lies between the least and the greatest of at most 3 x 3 cells of L, which
bounds how many pixels can exceed a threshold without forming any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.transforms import resized_size
from samtrt.types import BoolArray, Size

_BLOCK = 1 << 17
"""Full-size values formed at a time: few enough to stay in a core's cache between the steps."""


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
        first, last: int [n], the cells that a pixel draws on; both never decrease.
        weights: float32 [n, T, 1], of the T cells from `first` on.
        share: float64 [M], for each cell the number of pixels whose cells are among it and its
            two neighbours; every pixel is counted once.
    """

    first: npt.NDArray[np.intp]
    last: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float32]
    share: npt.NDArray[np.float64]

    @classmethod
    def build(cls, pixels: int, resized: int, image_size: int, cells: int) -> _Axis:
        matrix = _bilinear(pixels, resized) @ _bilinear(image_size, cells)[:resized]
        used = matrix > 0
        first = used.argmax(axis=1)
        last = cells - 1 - used[:, ::-1].argmax(axis=1)
        taps = first[:, None] + np.arange(int((last - first).max()) + 1)
        inside = np.minimum(taps, cells - 1)
        weights = np.where(taps < cells, np.take_along_axis(matrix, inside, axis=1), 0.0)
        share = np.bincount((first + last) // 2, minlength=cells).astype(np.float64)
        return cls(first, last, weights.astype(np.float32)[..., None], share)

    def stretch(
        self, rows: npt.NDArray[np.float32], offset: int, start: int, stop: int
    ) -> npt.NDArray[np.float32]:
        """Form the pixels start..stop from the cells offset.. : float32 [cells, k] to [pixels, k].

        Sums a few weighted rows. A product of matrices would be as quick, but each call of a
        multithreaded BLAS waits for threads that a busy runtime keeps from their core.
        """
        out = np.empty((stop - start, rows.shape[1]), dtype=np.float32)
        step = max(_BLOCK // rows.shape[1], 1)
        for i in range(start, stop, step):
            j = min(i + step, stop)
            block, weights = out[i - start : j - start], self.weights[i:j]
            for tap in range(weights.shape[1]):
                cells = np.minimum(self.first[i:j] + tap, self.last[i:j]) - offset
                if tap == 0:
                    np.multiply(rows[cells], weights[:, tap], out=block)
                else:
                    block += rows[cells] * weights[:, tap]
        return out

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
        rows = self._y.stretch(logits[:, left:right], 0, *ys)
        return self._x.stretch(np.ascontiguousarray(rows.T), left, *xs)

    def at_most(self, mask: BoolArray) -> float:
        """Bound from above the full-size pixels that exceed a threshold, from L > threshold."""
        return self._count(np.asarray(cv2.dilate(mask.astype(np.uint8), _NEIGHBOURS)))

    def at_least(self, mask: BoolArray) -> float:
        """Bound from below the full-size pixels that exceed a threshold, from L > threshold."""
        return self._count(np.asarray(cv2.erode(mask.astype(np.uint8), _NEIGHBOURS)))

    def _count(self, cells: npt.NDArray[Any]) -> float:
        rows = np.einsum("yx,x->y", cells, self._x.share)
        return float((rows * self._y.share).sum())


_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)
