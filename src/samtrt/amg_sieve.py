"""What automatic mask generation keeps: scores, stability, crop edges, duplicates, small parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from samtrt import rle
from samtrt.amg_grid import CropBox, touches_crop_edge
from samtrt.nms import nms
from samtrt.rle import Rle
from samtrt.types import BoolArray, Size
from samtrt.upscaling import Upscaler


class Candidate(NamedTuple):
    rle: Rle
    box: tuple[int, int, int, int]
    score: float
    stability: float
    point: tuple[float, float]
    crop: CropBox


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

    def score(self, values: npt.NDArray[np.float32]) -> float:
        """Return the pixels above the raised threshold over those above the lowered one.

        Divided in float32 as the official `calculate_stability_score` does; NaN for 0 / 0.
        """
        inter = np.count_nonzero(values > self.threshold + self.offset)
        union = np.count_nonzero(values > self.threshold - self.offset)
        return float(np.float32(inter) / np.float32(union)) if union else float("nan")

    def passes(self, score: float) -> bool:
        """Compare in float32; NaN passes only where there is no limit."""
        return self.least <= 0 or bool(np.float32(score) >= np.float32(self.least))

    def surely_fails(self, logits: npt.NDArray[np.float32], upscaler: Upscaler) -> bool:
        """Tell from low-res logits [M, M], by bounds that hold at full size, that none can pass."""
        if self.least <= 0 or self.offset < 0:
            return False
        union = upscaler.at_least(logits > self.threshold - self.offset)
        inter = upscaler.at_most(logits > self.threshold + self.offset)
        return inter < self.least * union * (1 - _ROUNDING)


_ROUNDING = 1e-6
"""Room for float32 in the comparison of bounds with a score that was divided in float32."""


class Sieve:
    """Turns one mask's low-res logits into a candidate, or None where a filter drops it."""

    def __init__(
        self, upscaler: Upscaler, stability: StabilityTest, crop: CropBox, size: Size
    ) -> None:
        """Take what is the same for every mask of a crop.

        Args:
            upscaler: From low-res logits to the crop's size.
            stability: Which masks are stable enough.
            crop: The crop.
            size: (height, width) of the whole image.
        """
        self._upscaler, self._test = upscaler, stability
        self._crop, self._size = crop, size

    def __call__(
        self, logits: npt.NDArray[np.float32], score: float, point: tuple[float, float]
    ) -> Candidate | None:
        test = self._test
        if test.surely_fails(logits, self._upscaler):
            return None
        x, y, values = self._upscaler.region_above(logits, test.lowest)
        stability = test.score(values)
        if not test.passes(stability):
            return None
        left, top, *_ = self._crop
        runs = rle.find_runs(values > test.threshold, self._size[0], left + x, top + y)
        # An empty mask's box is all zeros in its crop.
        box = runs.box if len(runs.starts) else (left, top, left, top)
        if touches_crop_edge(box, self._crop, self._size):
            return None
        return Candidate(
            rle=runs.to_rle(self._size),
            box=box,
            score=score,
            stability=float(stability),
            point=(point[0] + left, point[1] + top),
            crop=self._crop,
        )


def suppress(found: list[Candidate], scores: npt.ArrayLike, threshold: float) -> list[Candidate]:
    return [found[i] for i in nms([c.box for c in found], scores, threshold)]


def clean(found: list[Candidate], least_area: int, threshold: float) -> list[Candidate]:
    """Fill small holes, remove small islands, then drop the duplicates that this made."""
    cleaned = [_without_small_regions(candidate, least_area) for candidate in found]
    # Masks that needed no change are preferred.
    scores = [float(new is old) for new, old in zip(cleaned, found, strict=True)]
    return suppress(cleaned, scores, threshold)


def _without_small_regions(candidate: Candidate, least_area: int) -> Candidate:
    before = rle.decode(candidate.rle)
    filled = remove_small_regions(before, least_area, "holes")
    after = remove_small_regions(filled, least_area, "islands")
    if after is before:
        return candidate
    height, width = after.shape
    runs = rle.find_runs(np.ascontiguousarray(after.T), height)
    return candidate._replace(rle=runs.to_rle((height, width)), box=runs.box)


def remove_small_regions(
    mask: BoolArray, least_area: float, kind: Literal["holes", "islands"]
) -> BoolArray:
    """Fill the holes or remove the islands of a mask [H, W] that are smaller than `least_area`.

    Regions are 8-connected. Where every island is small, the largest stays. Returns `mask` itself
    where nothing changed.
    """
    holes = kind == "holes"
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ holes).astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    change = areas < least_area
    change[0] = False  # label 0 is the rest: the mask where holes are sought, else the background
    if not change.any():
        return mask
    if not holes and change[1:].all():
        change[1 + int(areas[1:].argmax())] = False
    value = np.zeros(count, dtype=np.bool_)
    value[1:] = change[1:] if holes else ~change[1:]
    value[0] = holes
    return np.asarray(value[labels])
