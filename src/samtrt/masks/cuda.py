"""From low-res logits on a GPU to masks at the original size, many at a time.

What `upscaling` and `rle` do on the host. All take the logits of many masks, [N, M, M] in a GPU's
memory, and the numbers of those to work on; only what is asked for comes to the host.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from samtrt.cuda.kernels import Kernels, load_kernels
from samtrt.cuda.memory import CudaArray, Memory
from samtrt.masks.axes import axis_weights
from samtrt.masks.rle import Rle
from samtrt.preparation.frame import Frame
from samtrt.types import Size

_SOURCE = Path(__file__).with_name("masks.cu")
_COLUMNS = 4  # of a thread, as in the source
_STRIP = 128
"""Rows that one thread block forms of a mask."""
_FAR = 1 << 30  # as in the source

_RUN_BLOCKS = 16
"""Thread blocks that work on one mask's runs."""

_TAPS = np.dtype([("weights", np.float32, 3), ("first", np.int32)])

Numbers = npt.NDArray[np.integer]


class Place(NamedTuple):
    """Where a mask lies in an image: what surrounds it is background.

    Attributes:
        left, top: Its first column and row.
        size: (height, width) of the image.
    """

    left: int
    top: int
    size: Size


class Limits(NamedTuple):
    """Logits above `threshold` are mask; above the others, they are in the stability's counts."""

    threshold: float
    raised: float
    lowered: float


class Facts(NamedTuple):
    """What is known of K masks without seeing them.

    Attributes:
        area, raised, lowered: int32 [K], pixels above each of the limits.
        boxes: int32 [K, 4]: x1, y1, x2, y2, the first and the last column and row in the mask;
            zeros for an empty one.
    """

    area: npt.NDArray[np.int32]
    raised: npt.NDArray[np.int32]
    lowered: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.int32]


class MaskFormer:
    """Forms masks of one frame from logits on one GPU."""

    def __init__(self, frame: Frame, memory: Memory) -> None:
        memory.cuda.use()
        self.frame, self._memory = frame, memory
        self._kernels: Kernels = load_kernels(_SOURCE, memory.cuda)
        side, shown = frame.mask_square
        self._ys, self._xs = (
            memory.upload(_taps(pixels, resized, side, frame.mask_size))
            for pixels, resized in zip(frame.original, shown, strict=True)
        )
        memory.synchronize()  # others may use them, in their streams
        height, width = frame.original
        self._sizes = (frame.mask_size, height, width)
        # Thread blocks that form a mask: groups of columns times strips of rows.
        self._blocks = -(-width // (128 * _COLUMNS)) * -(-height // _STRIP)

    def measure(
        self,
        logits: CudaArray,
        planes: Numbers,
        limits: Limits,
        scores: CudaArray | None = None,
        least_score: float = 0.0,
    ) -> Facts:
        """Count the pixels of masks and bound them, at full size and exactly.

        Args:
            logits: float32 [N, M, M].
            planes: [K], which of them.
            limits: What to count.
            scores: float32 [N]; masks whose score is not above `least_score` are left out, and
                all that is said of them is 0. None leaves out none.
            least_score: See `scores`.
        """
        chosen = self._begin(planes)
        found = self._memory.zeros((len(planes), 7), np.dtype(np.int32))
        self._kernels.launch(
            "measure_masks", (self._blocks, len(planes)), 128, logits, chosen,
            scores, float(least_score), self._ys, self._xs, *self._sizes, _STRIP,
            float(limits.raised), float(limits.lowered), float(limits.threshold), found,
        )  # fmt: skip
        raised, lowered, area, x1, x2, y1, y2 = found.numpy().T
        boxes = np.stack([_FAR - x1, _FAR - y1, x2 - 1, y2 - 1], axis=1)
        boxes[area == 0] = 0
        return Facts(area, raised, lowered, boxes)

    def logits(self, logits: CudaArray, planes: Numbers) -> CudaArray:
        """Return full-size logits, float32 [K, H, W], of planes [K] of logits [N, M, M]."""
        return self._form("form_logits", np.dtype(np.float32), logits, planes)

    def masks(self, logits: CudaArray, planes: Numbers, threshold: float) -> CudaArray:
        """Return masks, bool [K, H, W], of planes [K] of logits [N, M, M]."""
        return self._form("form_masks", np.dtype(np.bool_), logits, planes, float(threshold))

    def _form(
        self, kernel: str, dtype: np.dtype[Any], logits: CudaArray, planes: Numbers, *limits: float
    ) -> CudaArray:
        chosen = self._begin(planes)
        out = self._memory.empty((len(planes), *self.frame.original), dtype)
        self._kernels.launch(
            kernel, (self._blocks, len(planes)), 128,
            logits, chosen, self._ys, self._xs, *self._sizes, _STRIP, *limits, out,
        )  # fmt: skip
        self._memory.synchronize()
        return out

    def encode(
        self, logits: CudaArray, planes: Numbers, threshold: float, place: Place | None = None
    ) -> list[Rle]:
        """Return masks as uncompressed RLE, of the frame's image or of one that it is a part of.

        Counts are int32 arrays.

        Args:
            logits: float32 [N, M, M].
            planes: [K], which of them.
            threshold: Logits above it are mask.
            place: Where the frame's image lies in another.
        """
        height, width = self.frame.original
        left, top, (whole, across) = place or Place(0, 0, (height, width))
        count, total = len(planes), whole * across
        if not count:
            return []
        memory, groups = self._memory, -(-width // (64 * _COLUMNS))
        chosen = self._begin(planes)
        counts = memory.empty((count, width), np.dtype(np.int32))
        totals = memory.empty((count,), np.dtype(np.int32))
        inputs = (
            logits, chosen, self._ys, self._xs, *self._sizes, float(threshold),
            left * whole + top, whole, total, counts,
        )  # fmt: skip
        self._kernels.launch("count_edges", (groups, count), 64, *inputs)
        self._kernels.launch("sum_edges", (1, count), 256, counts, width, totals)
        ends = np.cumsum(totals.numpy(), dtype=np.int64)
        begins = memory.upload(np.r_[np.int64(0), ends[:-1]])
        edges = memory.empty((int(ends[-1]),), np.dtype(np.int32))
        self._kernels.launch("write_edges", (groups, count), 64, *inputs, begins, edges)
        lengths = memory.empty((int(ends[-1]) + count,), np.dtype(np.int32))
        self._kernels.launch(
            "measure_runs", (_RUN_BLOCKS, count), 256, edges, begins, totals, total, lengths
        )
        parts = np.split(lengths.numpy(), (ends + np.arange(1, count + 1))[:-1])
        return [{"size": [whole, across], "counts": part} for part in parts]

    def _begin(self, planes: Numbers) -> CudaArray:
        self._memory.cuda.use()
        return self._memory.upload(np.asarray(planes, np.int32))


@lru_cache(maxsize=64)
def _taps(pixels: int, resized: int, image_size: int, cells: int) -> npt.NDArray[np.void]:
    """Return the weights of each pixel along one axis, as the kernels read them."""
    taps = np.empty(pixels, _TAPS)
    taps["first"], taps["weights"] = axis_weights(pixels, resized, image_size, cells)
    return taps
