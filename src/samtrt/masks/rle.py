"""Run-length encoding of masks, column by column as COCO does, without a loop over pixels."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from samtrt.types import BoolArray, Size


class Rle(TypedDict):
    """COCO RLE. `counts`: lengths of runs, background first, or their compressed string."""

    size: list[int]
    counts: Any


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
        total = size[0] * size[1]
        edges = np.stack([self.starts, self.ends], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=total).tolist()
        if len(counts) > 1 and counts[-1] == 0:
            counts.pop()
        return {"size": [int(size[0]), int(size[1])], "counts": counts}


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


def decode(rle: Rle) -> BoolArray:
    """Decode RLE of either kind to a mask [H, W]."""
    height, width = rle["size"]
    if isinstance(rle["counts"], str | bytes):
        from pycocotools import mask as coco

        return np.asarray(coco.decode(rle), dtype=np.bool_)
    counts = np.asarray(rle["counts"], dtype=np.int64)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def compress(rle: Rle) -> Rle:
    """Turn uncompressed RLE into the compressed form that COCO files hold."""
    from pycocotools import mask as coco

    packed = coco.frPyObjects(rle, *rle["size"])
    return {"size": list(rle["size"]), "counts": packed["counts"].decode("ascii")}


def area(rle: Rle) -> int:
    """Count the pixels of uncompressed RLE."""
    return int(sum(rle["counts"][1::2]))
