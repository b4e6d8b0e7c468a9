"""From a picture's own values to RGB of 8 bits, as a viewer shows it.

Eight bits have a range: 0 is black and 255 white. More than that have none that can be relied on:
a camera's 12 bits come in uint16, a CT in int16, a depth map in float. Their range is the user's,
or else the file's, or else taken from the picture itself, and then a notice says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from samtrt.errors import ImageError
from samtrt.types import BoolArray, UInt8Array

ValueRange = tuple[float, float]
"""Which of a picture's values is black and which is white."""

BYTES: ValueRange = (0.0, 255.0)

PERCENTILES = (0.1, 99.9)
"""Of the values, where neither user nor file gives a range: single hot or dead pixels do not."""

_BAND = 1 << 21
"""Values converted at a time."""
_SAMPLE = 1 << 24
"""Values that percentiles are taken from, of more than 16 bits each."""


@dataclass(frozen=True)
class Samples:
    """What a file holds, upright and at its own depth.

    Attributes:
        colour: Integers or floats, [H, W] for grey or [H, W, 3] for RGB; not multiplied by alpha.
        alpha: [H, W], opaque at its type's largest value (floats: at 1); None where all is opaque.
        known: The range that the file's format or tags declare.
        nodata: A value that stands for no value.
        white_is_zero: Whether the lowest value is white.
        notices: What had to be assumed so far.
    """

    colour: npt.NDArray[Any]
    alpha: npt.NDArray[Any] | None = None
    known: ValueRange | None = None
    nodata: float | None = None
    white_is_zero: bool = False
    notices: tuple[str, ...] = ()


def parse_range(text: str) -> ValueRange:
    """Read "LOW:HIGH".

    Raises:
        ImageError: where these are no two numbers, the first the smaller.
    """
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = math.nan
    return check_range((low, high))


def check_range(value_range: ValueRange) -> ValueRange:
    """Return a range of two finite numbers, the first the smaller; else raise `ImageError`."""
    low, high = map(float, value_range)
    if not (low < high and math.isfinite(high - low)):
        raise ImageError(
            "a value range is LOW:HIGH, the values that are black and white, such as 0:4095"
        )
    return low, high


def colour_named(name: str) -> tuple[int, int, int]:
    """Return the RGB of a CSS colour, such as "black" or "#ff00ff".

    Raises:
        ImageError: where there is none of that name.
    """
    try:
        return ImageColor.getrgb(name)[:3]
    except (ValueError, TypeError):
        raise ImageError(
            f"'{name}' is no colour; use a name such as white or a code such as #ff8800"
        ) from None


def to_rgb(
    samples: Samples, value_range: ValueRange | None = None, background: str = "white"
) -> tuple[UInt8Array, tuple[str, ...]]:
    """Show samples as RGB, uint8 [H, W, 3].

    Args:
        samples: What the file holds.
        value_range: The values of black and white; None for what is known, or the picture's own.
        background: What transparent parts are shown over.

    Returns:
        The picture, and what was assumed to make it.
    """
    ground = np.array(colour_named(background), dtype=np.float32)
    notices = list(samples.notices)
    opaque = samples.alpha is None or _is_opaque(samples.alpha)
    seen = replace(samples, alpha=None) if opaque else samples
    chosen: ValueRange | None
    if value_range is not None:
        chosen = check_range(value_range)
    elif seen.known is None:
        chosen, how = _range_in(seen)
        notices.append(how)
    elif seen.known == BYTES and seen.colour.dtype == np.uint8:
        chosen = None  # they are what is wanted
    else:
        chosen = seen.known
    out = np.empty((*seen.colour.shape[:2], 3), dtype=np.uint8)
    missing = 0
    for rows in _bands(seen.colour):
        band = seen.colour[rows]
        missing += int(np.count_nonzero(~_is_value(band, seen.nodata)))
        shown = band if chosen is None else _to_bytes(band, chosen, seen)
        shown = shown if shown.ndim == 3 else shown[..., None]
        if seen.alpha is None:
            out[rows] = shown
        else:
            share = seen.alpha[rows].astype(np.float32)[..., None] / _opaque(seen.alpha.dtype)
            mixed = shown * share + ground * (1 - share)
            out[rows] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    if seen.alpha is not None:
        notices.append(
            f"its transparent parts are shown over {background}; choose with --background "
            "(in Python: background)"
        )
    if missing:
        notices.append(f"{missing:,} of its values are missing (NaN, infinite or no data): black")
    return out, tuple(notices)


def _bands(values: npt.NDArray[Any]) -> Iterator[slice]:
    """Divide an array [H, W, ...] into rows that are quick to work on together."""
    step = max(_BAND // max(math.prod(values.shape[1:]), 1), 1)
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _opaque(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def _is_opaque(alpha: npt.NDArray[Any]) -> bool:
    return all(bool((alpha[rows] >= _opaque(alpha.dtype)).all()) for rows in _bands(alpha))


def _is_value(band: npt.NDArray[Any], nodata: float | None) -> BoolArray:
    known = np.isfinite(band) if band.dtype.kind == "f" else np.ones(band.shape, dtype=np.bool_)
    return known if nodata is None else known & (band != nodata)


def _to_bytes(band: npt.NDArray[Any], chosen: ValueRange, samples: Samples) -> UInt8Array:
    low, high = chosen
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (band.astype(np.float64) - low) * (255 / (high - low))
    shown = np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)
    if samples.white_is_zero:
        shown = 255 - shown
    if band.dtype.kind == "f" or samples.nodata is not None:
        shown[~_is_value(band, samples.nodata)] = 0
    return shown


def _range_in(samples: Samples) -> tuple[ValueRange, str]:
    """Take the range from the picture; return it with a notice."""
    dtype = samples.colour.dtype
    values, least, most = _visible(samples)
    if values is None:
        return (0.0, 1.0), "it holds no value: all black"
    low, high = _percentiles(values)
    how = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g}"
    if not low < high:
        low, high, how = least, most, "its least and its greatest"
    whole: ValueRange | None = None
    if dtype.kind == "u":
        whole = (0.0, float(np.iinfo(dtype).max))
    elif dtype.kind == "f" and least >= 0 and most <= 1:
        whole = (0.0, 1.0)
    if whole and (high - low >= (whole[1] - whole[0]) / 2 or low == high):
        low, high = whole
        how = f"all that {dtype} can hold" if dtype.kind == "u" else "the usual range of floats"
    elif not low < high:
        low, high, how = low, low + 1, "it holds one value only"
    if not math.isfinite(high - low):
        raise ImageError(
            f"its values reach from {low:g} to {high:g}, too far apart to show: give --value-range "
            "LOW:HIGH (in Python: value_range)"
        )
    return (low, high), (
        f"its {dtype} values {low:g} to {high:g} are shown as black to white ({how}); fix the "
        "range with --value-range LOW:HIGH (in Python: value_range)"
    )


def _visible(samples: Samples) -> tuple[npt.NDArray[Any] | None, float, float]:
    """Return values that count for the range, or a fair part of them, and their extremes.

    Transparent, missing and infinite ones do not count.
    """
    colour = samples.colour
    # Of more than 16 bits, sorting all values of a large picture would take gigabytes.
    every = 1 if colour.dtype.itemsize <= 2 else -(-colour.size // _SAMPLE)
    parts = []
    least, most = math.inf, -math.inf
    for rows in _bands(colour):
        band = colour[rows]
        counts = _is_value(band, samples.nodata)
        if samples.alpha is not None:
            visible = samples.alpha[rows] > 0
            counts &= visible if band.ndim == 2 else visible[..., None]
        values = band[counts]
        if values.size:
            least, most = min(least, float(values.min())), max(most, float(values.max()))
            parts.append(values[::every])
    return (np.concatenate(parts) if parts else None), least, most


def _percentiles(values: npt.NDArray[Any]) -> ValueRange:
    """Return `PERCENTILES` of values [N], each a value that occurs."""
    ranks = [math.floor(share / 100 * (len(values) - 1) + 0.5) for share in PERCENTILES]
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        shift = int(np.iinfo(values.dtype).min)
        counts = np.zeros(1 << 8 * values.dtype.itemsize, dtype=np.int64)
        for rows in _bands(values):
            counts += np.bincount(values[rows].astype(np.int64) - shift, minlength=len(counts))
        low, high = np.searchsorted(np.cumsum(counts), ranks, side="right") + shift
    else:
        low, high = np.partition(values, ranks)[ranks]
    return float(low), float(high)
