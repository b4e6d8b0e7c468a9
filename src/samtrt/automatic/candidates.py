"""What automatic masks keep of one mask: bounds from its low-res logits, then all of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samtrt.automatic.grid import CropBox, touches_crop_edge
from samtrt.masks import rle
from samtrt.masks.rle import Rle
from samtrt.masks.upscaling import NO_PART, Part, Upscaler
from samtrt.types import BoolArray, Size

Check = Callable[[], None]
"""Raises where masks are not wanted any more."""

Box = tuple[int, int, int, int]
Point = tuple[float, float]


class Candidate(NamedTuple):
    """A mask that passed all filters but the one for duplicates.

    Attributes:
        rle: The mask, uncompressed.
        box: x1, y1, x2, y2 in the image's pixels; x2 and y2 the last column and row.
        score: The model's IoU prediction.
        stability: The official stability score.
        point: The prompt, in the image's pixels.
        crop: The crop that it was found in.
    """

    rle: Rle
    box: Box
    score: float
    stability: float
    point: Point
    crop: CropBox


class Prospect(NamedTuple):
    """A mask of which only low-res logits and bounds are known.

    Attributes:
        part: All of it that can count.
        outer, inner: int64 [4], boxes in the image's pixels that its own lies between; see
            `upscaling.Bounds`.
        score: The model's IoU prediction.
        stable: Whether its low-res logits look stable; the true score may tell otherwise.
        point: The prompt, in the crop's pixels.
        formed: The mask, where it was formed already.
    """

    part: Part
    outer: npt.NDArray[np.int64]
    inner: npt.NDArray[np.int64]
    score: float
    stable: bool
    point: Point
    formed: Candidate | None = None


@dataclass(frozen=True)
class StabilityTest:
    """The official stability score and its limit.

    Attributes:
        threshold: Logits above it are mask.
        offset: How far the threshold is raised and lowered.
        least: The least score that passes; 0 lets every mask pass.
    """

    threshold: float
    offset: float
    least: float

    @property
    def lowest(self) -> float:
        """Full-size values up to this play no part in the mask or its score."""
        return self.threshold - abs(self.offset)

    @property
    def highest(self) -> float:
        """Full-size values above it are part of the mask and of both counts of its score."""
        return self.threshold + abs(self.offset)

    def seem_stable(self, lowered: BoolArray, raised: BoolArray) -> BoolArray:
        """Guess from low-res cells [K, h, w] above `lowest` and `highest` what passes: bool [K]."""
        unions, inters = ([np.count_nonzero(mask) for mask in masks] for masks in (lowered, raised))
        return np.asarray(inters) >= self.least * np.asarray(unions)

    def counts(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return how many values are above the raised threshold and above the lowered one: [2]."""
        limits = self.threshold + self.offset, self.threshold - self.offset
        return np.array([np.count_nonzero(values > limit) for limit in limits])

    def score(self, counts: npt.NDArray[np.int64]) -> float:
        """Return the quotient of a mask's two counts.

        Divided in float32 as the official `calculate_stability_score` does; NaN for 0 / 0.
        """
        inter, union = counts
        return float(np.float32(inter) / np.float32(union)) if union else float("nan")

    def scores(
        self, raised: npt.NDArray[np.integer], lowered: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.float32]:
        """Return the quotients of many masks' counts, as `score` does: float32 [K]."""
        union = lowered.astype(np.float32)
        none = np.full(len(union), np.nan, np.float32)
        return np.divide(raised.astype(np.float32), union, out=none, where=union > 0)

    def all_passing(self, scores: npt.NDArray[np.float32]) -> BoolArray:
        """Tell which scores [K] pass, as `passes` does."""
        if self.least <= 0:
            return np.ones(len(scores), dtype=np.bool_)
        return np.asarray(scores >= np.float32(self.least))

    def passes(self, score: float) -> bool:
        """Compare in float32; NaN passes only where there is no limit."""
        return self.least <= 0 or bool(np.float32(score) >= np.float32(self.least))

    def surely_fails(self, part: Part, upscaler: Upscaler) -> bool:
        """Tell from low-res cells, by bounds that hold at full size, that a mask cannot pass.

        Args:
            part: All of the mask that exceeds `lowest`.
            upscaler: What the part is of.
        """
        if self.least <= 0 or self.offset < 0:
            return False
        place = part.top, part.left
        union = upscaler.at_least(part.cells > self.threshold - self.offset, *place)
        inter = upscaler.at_most(part.cells > self.threshold + self.offset, *place)
        return inter < self.least * union * (1 - _ROUNDING)


_ROUNDING = 1e-6
"""Room for float32 in the comparison of bounds with a score that was divided in float32."""


class Sieve:
    """Tells which masks of one crop are worth keeping."""

    def __init__(
        self,
        upscaler: Upscaler,
        stability: StabilityTest,
        crop: CropBox,
        size: Size,
        check: Check = lambda: None,
    ) -> None:
        """Take what is the same for every mask of a crop.

        Args:
            upscaler: From low-res logits to the crop's size.
            stability: Which masks are stable enough.
            crop: The crop.
            size: (height, width) of the whole image.
            check: Called before each piece of work.
        """
        self._upscaler, self._test = upscaler, stability
        self._crop, self._size = crop, size
        self._check = check

    def survey(
        self,
        logits: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        points: npt.NDArray[np.float64],
    ) -> list[Prospect]:
        """Look at K masks, their logits [K, M, M], scores [K] and points [K, 2], at low res.

        Leaves out those that are surely unstable.
        """
        self._check()
        test, upscaler = self._test, self._upscaler
        lowered = upscaler.above(logits, test.lowest)
        stable = test.seem_stable(lowered, upscaler.above(logits, test.highest))
        bounds = upscaler.bounds(upscaler.above(logits, test.threshold))
        shift = np.array((*self._crop[:2], *self._crop[:2]))
        return [
            Prospect(
                part=part._replace(cells=part.cells.copy()),  # lets go of the whole
                outer=bounds.outer[i] + shift,
                inner=bounds.inner[i] + shift,
                score=float(scores[i]),
                stable=bool(stable[i]),
                point=(float(points[i, 0]), float(points[i, 1])),
            )
            for i, part in enumerate(upscaler.parts(logits, lowered))
            if stable[i] or not test.surely_fails(part, upscaler)
        ]

    def settle(self, prospect: Prospect) -> Prospect | None:
        """Form a mask and let go of its logits; None as in `form`."""
        candidate = self.form(prospect)
        if candidate is None:
            return None
        box = np.array(candidate.box)
        return Prospect(NO_PART, box, box, prospect.score, True, prospect.point, candidate)

    def form(self, prospect: Prospect) -> Candidate | None:
        """Form a mask at full size; None where it is unstable or cut off by the crop's edge."""
        if prospect.formed:
            return prospect.formed
        self._check()
        test, part = self._test, prospect.part
        (y1, y2), (x1, x2) = part.ys, part.xs
        mask = np.empty((x2 - x1, y2 - y1), dtype=np.bool_)
        counts = np.zeros(2, dtype=np.int64)
        for _, y, values in self._upscaler.strips(part):
            counts += test.counts(values)
            np.greater(values, test.threshold, out=mask[:, y - y1 : y - y1 + values.shape[1]])
        stability = test.score(counts)
        if not test.passes(stability):
            return None
        left, top, *_ = self._crop
        runs = rle.find_runs(mask, self._size[0], left + x1, top + y1)
        # An empty mask's box is all zeros in its crop.
        box = runs.box if len(runs.starts) else (left, top, left, top)
        if touches_crop_edge(box, self._crop, self._size):
            return None
        return Candidate(
            rle=runs.to_rle(self._size),
            box=box,
            score=prospect.score,
            stability=stability,
            point=(prospect.point[0] + left, prospect.point[1] + top),
            crop=self._crop,
        )


class Prospects:
    """The masks of one crop that are looked at so far; a pool looks at more.

    Low-res logits are kept, within limits: beyond those, masks are formed at once, as RLE is small.
    """

    def __init__(self, sieve: Sieve, pool: Executor) -> None:
        self._sieve, self._pool = sieve, pool
        self._jobs: list[Future[list[Prospect]]] = []
        self._found: list[Prospect] = []
        self._held = 0

    def add(
        self,
        logits: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        points: npt.NDArray[np.float64],
    ) -> None:
        """Let the pool look at K more masks, as `Sieve.survey` does, and wait for those before."""
        before, self._jobs = self._jobs, []
        for i in range(0, len(logits), _AT_ONCE):
            some = slice(i, i + _AT_ONCE)
            work = logits[some], scores[some], points[some]
            self._jobs.append(self._pool.submit(self._sieve.survey, *work))
        self._take(before)

    def all(self) -> list[Prospect]:
        """Wait, and return the masks in the order that they came in."""
        self._take(self._jobs)
        return self._found

    def _take(self, jobs: list[Future[list[Prospect]]]) -> None:
        for job in jobs:
            self._found += job.result()
            self._held += sum(prospect.part.cells.nbytes for prospect in job.result())
        if self._held > MOST_HELD:
            formed = self._pool.map(self._sieve.settle, self._found)
            self._found = [prospect for prospect in formed if prospect]
            self._held = 0


_AT_ONCE = 8
"""Masks in one call of `survey`: many enough to make its calls of NumPy cheap, few enough for a
core's cache."""

MOST_HELD = 1 << 29
"""Bytes of low-res logits that wait (512 MB: 2,000 masks that fill a square image)."""
