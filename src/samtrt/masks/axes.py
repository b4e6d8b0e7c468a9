"""One axis of the way from low-res logits to the original size: which cells a pixel is a mean of.

Both bilinear resizes of `upscaling.py` together draw each pixel from at most three cells, which lie
side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.types import BoolArray, Size

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """An axis of n pixels from M cells; the last M - M' are padding.

    Attributes:
        sizes: M, S, the side of the resized image, and n.
        first, last: int [n], the cells that a pixel draws on; both never decrease.
        share: [M'], for each cell the number of pixels that draw on no other cells than it and its
            two neighbours; every pixel is counted once.
        begin, end: int [M' + 1]; begin[c] is the first pixel that draws on c or a later cell,
            end[c] the first that draws on none before c.
        pair_begin, pair_end: int [M' + 1]; the pixels pair_begin[c] .. pair_end[c + 1] draw on no
            other cells than c and c + 1. There may be none.
    """

    sizes: tuple[int, int, int, int]
    first: npt.NDArray[np.intp]
    last: npt.NDArray[np.intp]
    share: npt.NDArray[np.unsignedinteger]
    begin: npt.NDArray[np.intp]
    end: npt.NDArray[np.intp]
    pair_begin: npt.NDArray[np.intp]
    pair_end: npt.NDArray[np.intp]

    @classmethod
    def build(cls, pixels: int, resized: int, image_size: int, cells: int) -> Axis:
        places, weights = _sources(pixels, resized, image_size, cells)
        first = np.where(weights > 0, places, cells).min(axis=1)
        last = np.where(weights > 0, places, -1).max(axis=1)
        drawn_on = int(last[-1]) + 1
        numbers = np.arange(drawn_on + 1)
        begin, end = np.searchsorted(last, numbers), np.searchsorted(first, numbers)
        pairs = np.bincount(first[last - first <= 1], minlength=drawn_on)
        # Room for the sum; narrow integers are quick to sum.
        narrowest = np.promote_types(np.min_scalar_type(pixels), np.uint16)
        return cls(
            (cells, image_size, resized, pixels),
            first,
            last,
            np.bincount((first + last) // 2, minlength=drawn_on).astype(narrowest),
            begin,
            end,
            pair_begin=end,
            pair_end=np.concatenate([[0], end[:-1] + pairs]),
        )

    @property
    def has_pair(self) -> BoolArray:
        """Whether some pixel draws on no other cells than c and c + 1: bool [M']."""
        return self.pair_end[1:] > self.pair_begin[:-1]

    def __len__(self) -> int:
        """Return M'."""
        return len(self.share)

    def stretch(self, rows: Floats, offset: int) -> Floats:
        """Resize rows along this axis.

        Args:
            rows: float32 [h, k], some of the cells; the others count as 0.
            offset: The number of the first.

        Returns:
            All pixels, float32 [n, k].
        """
        cells, image_size, resized, pixels = self.sizes
        width = rows.shape[1]
        padded = np.zeros((cells, width), dtype=np.float32)
        padded[offset : offset + len(rows)] = rows
        return resize(resize(padded, (image_size, width))[:resized], (pixels, width))


def resize(plane: Floats, size: Size, out: Floats | None = None) -> Floats:
    """Bilinear, align_corners=False, not antialiased, as `torch.nn.functional.interpolate`.

    Args:
        plane: float32 [h, w].
        size: Height and width to bring it to.
        out: Of this size, to write to.

    Returns:
        float32, `out` where it was given, or the plane itself where it has the size.
    """
    if plane.shape == size:
        return plane
    resized = cv2.resize(plane, (size[1], size[0]), out, interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)


def _bilinear(n_out: int, n_in: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return what `interpolate(mode="bilinear", align_corners=False)` draws each value from.

    Returns:
        The two places of each in the input, and their weights: [n_out, 2] each.
    """
    source = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    low = source.astype(np.intp)
    weight = source - low
    places = np.stack([low, np.minimum(low + 1, n_in - 1)], axis=1)
    return places, np.stack([1 - weight, weight], axis=1)


def _sources(
    pixels: int, resized: int, image_size: int, cells: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the four cells, some alike, that each pixel is drawn from, both resizes together.

    Not as matrices: those of a side of millions of pixels would take gigabytes. Arguments as of
    `axis_weights`; returns the cells and their weights, [n, 4] each.
    """
    rows, row_weights = _bilinear(pixels, resized)
    places, weights = _bilinear(image_size, cells)
    return (
        places[rows].reshape(pixels, 4),
        (row_weights[:, :, None] * weights[rows]).reshape(pixels, 4),
    )


def axis_weights(
    pixels: int, resized: int, image_size: int, cells: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return what each pixel along one axis is a mean of, both resizes together.

    Args:
        pixels: n, of the original image.
        resized: Of the image in the square.
        image_size: S, the side of the square.
        cells: M, at least 3.

    Returns:
        The first of three cells, [n], never decreasing, and the weights of the three, [n, 3].
    """
    places, weights = _sources(pixels, resized, image_size, cells)
    first = np.minimum(np.where(weights > 0, places, cells).min(axis=1), cells - 3)
    sums = [np.where(places == first[:, None] + k, weights, 0).sum(axis=1) for k in range(3)]
    return first, np.stack(sums, axis=1)
