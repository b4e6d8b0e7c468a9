"""Run-length encoding of masks, column by column as COCO does, without a loop over pixels."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from samtrt.errors import MaskError
from samtrt.masks.counts import read_counts, write_counts
from samtrt.types import BoolArray, Size

MAX_PIXELS = 1 << 30
"""The most that `decode` makes a mask of. A few bytes of RLE can ask for any size."""


class Rle(TypedDict):
    """COCO RLE.

    `counts`: lengths of runs, background first, as a list or as int32 [R], or their compressed
    string.
    """

    size: list[int]
    counts: Any


class Patch(NamedTuple):
    """A mask cut to its box: what is outside is background.

    Attributes:
        x, y: Left column and top row.
        mask: bool [h, w]; of no size for an empty mask.
    """

    x: int
    y: int
    mask: BoolArray


class Runs(NamedTuple):
    """The foreground runs of a mask, as half-open ranges of column-major pixel numbers.

    Attributes:
        starts, ends: int64 [R]; rising, and no run touches the next.
        box: (x1, y1, x2, y2) of the mask with x2 and y2 the last column and row in it, as the
            official code has it; zeros for an empty mask.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    box: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int((self.ends - self.starts).sum())

    def to_rle(self, size: Size) -> Rle:
        """Return uncompressed RLE of a mask [H, W]: official `mask_to_rle_pytorch`."""
        return rle_of_edges(np.stack([self.starts, self.ends], axis=1).ravel(), size)


def rle_of_edges(edges: npt.NDArray[np.integer], size: Size) -> Rle:
    """Return uncompressed RLE of a mask [H, W] from where mask begins and ends, in turn.

    Args:
        edges: [E], column-major pixel numbers, rising. An end at the last pixel may be left out.
        size: (H, W).
    """
    counts = np.diff(edges, prepend=0, append=size[0] * size[1]).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
    return {"size": [int(size[0]), int(size[1])], "counts": counts}


def with_array(rle: Rle) -> Rle:
    """Return uncompressed RLE with its counts as int32 [R]."""
    return {"size": rle["size"], "counts": np.asarray(rle["counts"], dtype=np.int32)}


def with_list(rle: Rle) -> Rle:
    """Return uncompressed RLE with its counts as a list, as the official code and JSON have it."""
    return {"size": rle["size"], "counts": np.asarray(rle["counts"]).tolist()}


def find_runs(transposed: BoolArray, height: int, x: int = 0, y: int = 0) -> Runs:
    """Find the runs of a mask that is False outside of a rectangle.

    Args:
        transposed: bool [w, h], the rectangle's columns.
        height: H of the whole mask.
        x, y: Left column and top row of the rectangle in it.
    """
    width, span = transposed.shape
    # A background pixel around every column makes each run begin and end within its own.
    padded = np.zeros((width, span + 2), dtype=np.uint8)
    padded[:, 1:-1] = transposed
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    column, row = np.divmod(edges, span + 2)
    numbers = (column + x) * height + row + y
    starts, ends = numbers[::2], numbers[1::2]
    if not len(starts):
        return Runs(starts, ends, (0, 0, 0, 0))
    box = (
        x + int(column[0]),
        y + int(row[::2].min()),
        x + int(column[-1]),
        y + int(row[1::2].max()) - 1,
    )
    # A run that reaches the foot of the mask goes on at the head of the next column.
    apart = ends[:-1] != starts[1:]
    return Runs(starts[np.r_[True, apart]], ends[np.r_[apart, True]], box)


def of(segmentation: BoolArray | Rle) -> Rle:
    """Return a record's segmentation as RLE, encoding it where it is a mask."""
    return encode(segmentation) if isinstance(segmentation, np.ndarray) else segmentation


def encode(mask: BoolArray) -> Rle:
    """Encode a mask [H, W] as uncompressed RLE."""
    height, width = mask.shape
    return find_runs(np.ascontiguousarray(mask.T), height).to_rle((height, width))


def decode(rle: Rle, max_pixels: int = MAX_PIXELS) -> BoolArray:
    """Decode RLE of either kind to a mask [H, W]. Unlike pycocotools, trusts nothing.

    Raises:
        MaskError: where it is not RLE, or not of a mask of its size, or the mask is larger than
            `max_pixels`. Nothing of the mask's size is allocated before that is known.
    """
    height, width = _size(rle, max_pixels)
    runs = _counts(rle, height * width)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def cut(rle: Rle, max_pixels: int = MAX_PIXELS) -> Patch:
    """Decode RLE of either kind to the part of its mask that is not background.

    Takes memory and time of that part alone; raises as `decode`.
    """
    height = _size(rle, max_pixels)[0]
    runs = runs_of(rle, max_pixels)
    if not len(runs.starts):
        return Patch(0, 0, np.zeros((0, 0), dtype=np.bool_))
    x1, y1, x2, y2 = runs.box
    # A run that goes on in the next columns is one in each.
    first, last = runs.starts // height, (runs.ends - 1) // height
    each = last - first + 1
    number = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
    columns = np.repeat(first, each) + number
    tops = np.where(number == 0, np.repeat(runs.starts % height, each), 0)
    whole = number < np.repeat(each, each) - 1
    feet = np.where(whole, height, np.repeat((runs.ends - 1) % height + 1, each))
    changes = np.zeros((x2 - x1 + 1, y2 - y1 + 2), dtype=np.int8)
    changes[columns - x1, tops - y1] = 1
    changes[columns - x1, feet - y1] = -1
    np.cumsum(changes, axis=1, out=changes)
    return Patch(x1, y1, changes[:, :-1].view(np.bool_).T)


def patch_of(mask: BoolArray) -> Patch:
    """Cut a mask [H, W] to its box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Patch(0, 0, np.zeros((0, 0), dtype=np.bool_))
    x, y = int(columns[0]), int(rows[0])
    return Patch(x, y, mask[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1])


def runs_of(rle: Rle, max_pixels: int = MAX_PIXELS) -> Runs:
    """Return the foreground runs of RLE of either kind; raises as `decode`."""
    height, width = _size(rle, max_pixels)
    edges = np.cumsum(_counts(rle, height * width))
    starts, ends = edges[:-1:2], edges[1::2]
    filled = starts < ends
    starts, ends = starts[filled], ends[filled]
    if not len(starts):
        return Runs(starts, ends, (0, 0, 0, 0))
    # Runs that touch, by an empty one between them, are one.
    apart = ends[:-1] != starts[1:]
    starts, ends = starts[np.r_[True, apart]], ends[np.r_[apart, True]]
    (left, top), (right, bottom) = np.divmod(starts, height), np.divmod(ends - 1, height)
    within = bool((left == right).all())  # else one has the foot of a column and a head
    box = (
        int(left[0]),
        int(top.min()) if within else 0,
        int(right[-1]),
        int(bottom.max()) if within else height - 1,
    )
    return Runs(starts, ends, box)


def _counts(rle: Rle, total: int) -> npt.NDArray[np.int64]:
    """Return the lengths of all runs, checked to add up to `total`."""
    counts = rle.get("counts")
    runs = read_counts(counts) if isinstance(counts, str | bytes) else _runs_of_list(counts)
    # Each run is bounded before they are summed, so that the sum cannot wrap around to `total`.
    if ((runs < 0) | (runs > total)).any() or int(runs.sum()) != total:
        raise MaskError("the mask's counts do not add up to its size")
    return runs


def _size(rle: Rle, max_pixels: int) -> Size:
    """Check the size that RLE names, and that decoding it is worth the memory."""
    try:
        height, width = rle["size"]
    except (KeyError, TypeError, ValueError):
        raise MaskError("a mask's size must be its height and width") from None
    for side in (height, width):
        if not isinstance(side, int | np.integer) or isinstance(side, bool) or side < 0:
            raise MaskError("a mask's height and width must be integers of 0 or more")
    if int(height) * int(width) > max_pixels:
        raise MaskError(
            f"the mask has {width} x {height} pixels, more than the limit of {max_pixels:,}"
        )
    return int(height), int(width)


def _runs_of_list(counts: Any) -> npt.NDArray[np.int64]:
    try:
        runs = np.asarray(counts)
    except (TypeError, ValueError, OverflowError):
        runs = np.empty((), dtype=object)
    if runs.ndim != 1 or (len(runs) and runs.dtype.kind not in "iu"):
        raise MaskError("the mask's counts must be a list of integers or a compressed string")
    if len(runs) and runs.max() > np.iinfo(np.int64).max:
        raise MaskError("the mask's counts do not add up to its size")
    return runs.astype(np.int64)


def compress(rle: Rle) -> Rle:
    """Turn uncompressed RLE into the compressed form that COCO files hold."""
    return {"size": list(rle["size"]), "counts": write_counts(rle["counts"])}


def coco_box(rle: Rle) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of RLE's mask, the COCO form; zeros for an empty mask."""
    runs = runs_of(rle)
    x1, y1, x2, y2 = runs.box
    return (x1, y1, x2 - x1 + 1, y2 - y1 + 1) if runs.area else (0, 0, 0, 0)


def area(rle: Rle) -> int:
    """Count the pixels of uncompressed RLE."""
    return int(np.sum(rle["counts"][1::2], dtype=np.int64))
