"""From low-res logits to the original size: whole masks, or of many only what can hold mask.

Bringing logits L [M, M] to the original size resizes bilinearly twice (official
`Sam.postprocess_masks`: to S x S, cut off the padding, to H x W). Both steps are linear and
separable: one axis can be done after the other, and the result is `Y @ L @ X.T` with a matrix for
each axis that holds at most three weights a row, side by side. Two things follow. A rectangle of
the result needs a rectangle of L alone; and each pixel lies between the least and the greatest of
at most 3 x 3 cells of L, which bounds the pixels that can exceed a threshold without forming any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.masks.axes import Axis, Floats, resize
from samtrt.masks.rle import Runs, find_runs
from samtrt.preparation.frame import Frame
from samtrt.types import BoolArray, Size

_STRIP = 1 << 18
"""Full-size values formed at a time: few enough to stay in a core's cache, and for memory that is
used again instead of given back."""

Span = tuple[int, int]
"""A range, half-open."""


class Part(NamedTuple):
    """A rectangle of a full-size array, and the low-res cells that its values are drawn from.

    Attributes:
        ys, xs: Its rows and columns; empty where there is no rectangle.
        cells: float32 [h, w].
        top, left: Row and column of the first of these cells.
    """

    ys: Span
    xs: Span
    cells: Floats
    top: int
    left: int


NO_PART = Part((0, 0), (0, 0), np.empty((0, 0), dtype=np.float32), 0, 0)


class Region(NamedTuple):
    """A rectangle of a full-size array, transposed: RLE runs down the columns.

    Attributes:
        x, y: Its left column and top row.
        values: float32 [w, h].
    """

    x: int
    y: int
    values: Floats


class Bounds(NamedTuple):
    """Boxes (x1, y1, x2, y2) of K masks' pixels, x2 and y2 the last column and row.

    Attributes:
        outer: int64 [K, 4]; no pixel of the mask is outside.
        inner: int64 [K, 4]; the mask's own box is at least this. x2 < x1 where nothing is known.
    """

    outer: npt.NDArray[np.int64]
    inner: npt.NDArray[np.int64]


def upscale_one(
    logits: Floats, frame: Frame, size: Size | None = None, out: Floats | None = None
) -> Floats:
    """Bring low-res logits [M, M] to the image's original size, or another: float32 [H, W].

    Official `Sam.postprocess_masks`: to S x S, cut off the padding, to the original size; and
    `SAM2Transforms.postprocess_masks`: to the original size.
    """
    side, (height, width) = frame.mask_square
    padded = resize(np.ascontiguousarray(logits), (side, side))
    return resize(padded[:height, :width], size or frame.original, out)


class Upscaler:
    """Brings low-res logits [M, M] to one original size, as `upscale_one`, in part."""

    def __init__(self, frame: Frame) -> None:
        self.original = frame.original
        side, shown = frame.mask_square
        self._y, self._x = (
            Axis.build(pixels, resized, side, frame.mask_size)
            for pixels, resized in zip(frame.original, shown, strict=True)
        )
        self._has_pair = self._y.has_pair[:, None] & self._x.has_pair

    def above(self, logits: Floats, threshold: float) -> BoolArray:
        """Return what exceeds a threshold in K masks [K, M, M], without padding: [K, M', M'']."""
        return np.asarray(logits[:, : len(self._y), : len(self._x)] > threshold)

    def parts(self, logits: Floats, masks: BoolArray) -> list[Part]:
        """For each of K masks, return the part that holds all values drawn from a cell of it.

        Args:
            logits: [K, M, M].
            masks: [K, M', M''], as `above` returns them.
        """
        found = []
        for plane, (x1, y1, x2, y2) in zip(logits, self._outer(masks).tolist(), strict=True):
            if x2 < x1 or y2 < y1:  # in a small image, there are cells that no pixel draws on
                found.append(NO_PART)
                continue
            top, bottom = int(self._y.first[y1]), int(self._y.last[y2]) + 1
            left, right = int(self._x.first[x1]), int(self._x.last[x2]) + 1
            cells = plane[top:bottom, left:right]
            found.append(Part((y1, y2 + 1), (x1, x2 + 1), cells, top, left))
        return found

    def strips(self, part: Part) -> Iterator[Region]:
        """Form the full-size values of a part, some rows at a time."""
        if not part.cells.size:
            return
        (top, bottom), (left, right) = part.ys, part.xs
        # Along y, then along x: rows that are not in the part are left out in between.
        columns = self._y.stretch(part.cells, part.top)[top:bottom].T
        step = max(_STRIP // self.original[1], 1)
        for start in range(0, bottom - top, step):
            values = self._x.stretch(columns[:, start : start + step], part.left)
            yield Region(left, top + start, values[left:right])

    def runs(self, logits: Floats, threshold: float) -> Runs:
        """Form what of one mask's logits [M, M] exceeds a threshold, as runs.

        At no time is there more than the mask's own part at full size, and that as a bool each.
        """
        part = self.parts(logits[None], self.above(logits[None], threshold))[0]
        (top, bottom), (left, right) = part.ys, part.xs
        mask = np.empty((right - left, bottom - top), dtype=np.bool_)
        for _, y, values in self.strips(part):
            np.greater(values, threshold, out=mask[:, y - top : y - top + values.shape[1]])
        return find_runs(mask, self.original[0], left, top)

    def bounds(self, masks: BoolArray) -> Bounds:
        """Bound the boxes of K masks' full-size pixels.

        Args:
            masks: [K, M', M''], as `above` returns it.
        """
        sure = np.zeros_like(masks)
        rows = masks[:, :-1] & masks[:, 1:]
        np.logical_and(rows[:, :, :-1], rows[:, :, 1:], out=sure[:, :-1, :-1])
        (y1, y2), (x1, x2) = _spans(np.logical_and(sure, self._has_pair))
        inner = _boxes(
            self._x.pair_begin[x1],
            self._y.pair_begin[y1],
            self._x.pair_end[x2],
            self._y.pair_end[y2],
        )
        return Bounds(self._outer(masks), inner)

    def _outer(self, masks: BoolArray) -> npt.NDArray[np.int64]:
        (y1, y2), (x1, x2) = _spans(masks)
        return _boxes(self._x.begin[x1], self._y.begin[y1], self._x.end[x2], self._y.end[y2])

    def at_most(self, cells: BoolArray, top: int = 0, left: int = 0) -> int:
        """Bound from above the full-size pixels that exceed a threshold, from L > threshold.

        Args:
            cells: [h, w]; those outside do not exceed it.
            top, left: Row and column of the first one in [M', M''].
        """
        return self._count(cv2.dilate, cells, top, left)

    def at_least(self, cells: BoolArray, top: int = 0, left: int = 0) -> int:
        """Bound these pixels from below; as `at_most`."""
        return self._count(cv2.erode, cells, top, left)

    def _count(self, change: Callable[..., Any], cells: BoolArray, top: int, left: int) -> int:
        """Count the pixels of the cells that are set after a change of each by its neighbours."""
        height, width = cells.shape
        if not cells.size:
            return 0
        changed = change(cells.astype(np.uint8), _NEIGHBOURS)
        rows = np.einsum("yx,x->y", changed, self._x.share[left : left + width])
        return int(rows.astype(np.int64) @ self._y.share[top : top + height].astype(np.int64))


def _spans(masks: BoolArray) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Return between which rows and columns each of K masks [K, h, w] lies; 0 and 0 for none."""
    spans = []
    for axis in (2, 1):
        lines = np.asarray(masks.any(axis=axis))
        stop = lines.shape[1] - lines[:, ::-1].argmax(axis=1)
        spans.append((lines.argmax(axis=1), np.where(lines.any(axis=1), stop, 0)))
    return spans


def _boxes(*sides: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Stack half-open x1, y1, x2, y2 [K] to boxes [K, 4] that name the last pixels."""
    return np.stack(sides, axis=1).astype(np.int64) - (0, 0, 1, 1)


_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)
