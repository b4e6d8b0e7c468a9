"""What a user without a trained model would reach for: GrabCut, flood fill, Felzenszwalb.

Every parameter below was chosen for the best mean IoU on the first set of photographs, on which the
methods are then compared (docs/photos.md), so that comparison errs in their favour.
`python training/baselines.py` runs that search again (half an hour on two cores) and prints the
best settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.errors import MissingExtraError
from samtrt.masks.logits import mask_iou
from samtrt.types import BoolArray, UInt8Array


@dataclass(frozen=True)
class GrabCut:
    """GrabCut (Rother et al., 2004) from a box: OpenCV's, five iterations.

    Attributes:
        lab: Work on CIE Lab instead of RGB.
        blur: Side in pixels of the Gaussian blur before it; 1 for none.
        solid: Keep the largest piece and fill its holes.
    """

    lab: bool = False
    blur: int = 7
    solid: bool = False

    def __call__(self, image: UInt8Array, box: npt.ArrayLike) -> BoolArray:
        """Segment what the box (XYXY in pixels) holds: bool [H, W]."""
        pixels = _prepare(image, self.lab, self.blur)
        x1, y1, x2, y2 = (round(float(side)) for side in np.ravel(np.asarray(box)))
        labels: UInt8Array = np.zeros(image.shape[:2], dtype=np.uint8)
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # its mixtures start from random clusters
        rectangle = (x1, y1, x2 - x1, y2 - y1)
        cv2.grabCut(pixels, labels, rectangle, background, foreground, 5, cv2.GC_INIT_WITH_RECT)
        mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        return _solid(mask) if self.solid else mask


@dataclass(frozen=True)
class FloodFill:
    """Flood fill from points, OpenCV's: the union of what each point reaches,
    with its holes filled.

    Attributes:
        tolerance: Largest difference in each channel.
        fixed: Compare with the point's own colour, not with the neighbouring pixel's.
        lab: Work on CIE Lab instead of RGB.
        blur: Side in pixels of the Gaussian blur before it; 1 for none.
    """

    tolerance: int = 40
    fixed: bool = True
    lab: bool = False
    blur: int = 21

    def __call__(self, image: UInt8Array, points: npt.ArrayLike) -> BoolArray:
        """Segment what the points ([N, 2], XY in pixels) lie on: bool [H, W]."""
        pixels = _prepare(image, self.lab, self.blur)
        height, width = image.shape[:2]
        filled = np.zeros((height + 2, width + 2), dtype=np.uint8)
        flags = 4 | cv2.FLOODFILL_MASK_ONLY | (cv2.FLOODFILL_FIXED_RANGE if self.fixed else 0)
        limits = (self.tolerance,) * 3
        mask = np.zeros((height, width), dtype=bool)
        for x, y in np.reshape(np.asarray(points), (-1, 2)):
            filled[:] = 0  # a filled mask would stop the next point
            cv2.floodFill(pixels, filled, (int(x), int(y)), 0, limits, limits, flags | 1 << 8)
            mask |= filled[1:-1, 1:-1].astype(bool)
        return _fill_holes(mask)


@dataclass(frozen=True)
class Felzenszwalb:
    """Felzenszwalb's graph segmentation, scikit-image's: the segments that points fall into,
    with their holes filled.

    Attributes:
        scale: Preference for larger segments.
        sigma: Standard deviation in pixels of the blur before it.
        min_size: Smallest segment, in pixels.
    """

    scale: float = 300
    sigma: float = 2.2
    min_size: int = 1200

    def __call__(self, image: UInt8Array, points: npt.ArrayLike) -> BoolArray:
        """Segment what the points ([N, 2], XY in pixels) lie on: bool [H, W]."""
        return self.pick(self.segments(image), points)

    def segments(self, image: UInt8Array) -> npt.NDArray[np.int64]:
        """Cut the whole image into segments: one number for each pixel, [H, W]."""
        try:
            from skimage.segmentation import felzenszwalb
        except ImportError:
            raise MissingExtraError("Felzenszwalb", "training", "scikit-image") from None
        settings = {"scale": self.scale, "sigma": self.sigma, "min_size": self.min_size}
        return np.asarray(felzenszwalb(image, **settings), dtype=np.int64)

    def pick(self, segments: npt.NDArray[np.int64], points: npt.ArrayLike) -> BoolArray:
        """Join the segments under the points."""
        x, y = np.reshape(np.asarray(points), (-1, 2)).astype(int).T
        return _fill_holes(np.isin(segments, segments[y, x]))


def _prepare(image: UInt8Array, lab: bool, blur: int) -> UInt8Array:
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2LAB) if lab else image
    if blur > 1:
        pixels = cv2.GaussianBlur(pixels, (blur, blur), 0)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _fill_holes(mask: BoolArray) -> BoolArray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, -1).astype(bool)


def _solid(mask: BoolArray) -> BoolArray:
    """Return the largest 8-connected piece with its holes filled."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    return _fill_holes(labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax())


GRIDS: dict[type, dict[str, tuple[Any, ...]]] = {
    GrabCut: {"lab": (False, True), "blur": (1, 3, 7, 11), "solid": (False, True)},
    FloodFill: {
        "tolerance": (2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 35, 40, 50, 60, 80),
        "fixed": (False, True),
        "lab": (False, True),
        "blur": (1, 3, 5, 9, 15, 21, 31),
    },
    Felzenszwalb: {
        "scale": (200, 300, 400, 600),
        "sigma": (0.8, 1.5, 2.2, 3.0),
        "min_size": (200, 600, 1200),
    },
}
"""The settings that were tried."""

Method = TypeVar("Method", GrabCut, FloodFill, Felzenszwalb)


def _variants(kind: type[Method]) -> Iterator[Method]:
    for values in itertools.product(*GRIDS[kind].values()):
        yield kind(**dict(zip(GRIDS[kind], values, strict=True)))


def tune(kind: type[Method], photos: Iterable[Any]) -> tuple[Method, float]:
    """Return the settings with the best mean IoU over all objects, and that mean.

    GrabCut is tuned on boxes, the others on one point.
    """
    totals: dict[Method, list[float]] = {method: [] for method in _variants(kind)}
    for photo in photos:
        for method, scores in totals.items():
            predict = _cached(method, photo.image)
            for item in photo.objects:
                prompt = item.box if kind is GrabCut else item.points[:1]
                scores.append(mask_iou(predict(prompt), item.mask))
    best = max(totals, key=lambda method: float(np.mean(totals[method])))
    return best, float(np.mean(totals[best]))


def _cached(method: Method, image: UInt8Array) -> Callable[[npt.ArrayLike], BoolArray]:
    """Bind an image; Felzenszwalb cuts it once for all points."""
    if isinstance(method, Felzenszwalb):
        segments = method.segments(image)
        return lambda points: method.pick(segments, points)
    return lambda prompt: method(image, prompt)


def main() -> None:
    """Search the grids and print the best settings of each method."""
    from photo_set import load_photos

    photos = load_photos()
    for kind in GRIDS:
        best, mean = tune(kind, photos)
        print(f"{kind.__name__}: mean IoU {mean:.3f} with {asdict(best)}", flush=True)


if __name__ == "__main__":
    main()
