"""Drawing masks, points and boxes over an image.

Each function takes an RGB image, uint8 [H, W, 3], and returns a new one; line widths and disc
sizes follow the image's size, so that a picture looks alike at any resolution.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from samtrt.masks.rle import Patch, patch_of
from samtrt.types import BoolArray, UInt8Array

Colour = tuple[int, int, int]
"""RGB, 0..255."""

GOLDEN_RATIO = 0.6180339887498949
_TONES = ((0.85, 1.0), (0.65, 0.95), (0.95, 0.85))
"""Saturation and value of consecutive colours: neighbours in the list differ in more than hue."""

_FOREGROUND: Colour = (46, 204, 94)
_BACKGROUND: Colour = (235, 64, 52)
_BOX: Colour = (255, 214, 10)
_WHITE: Colour = (255, 255, 255)
_DARK: Colour = (20, 20, 20)


def colour_of(index: int) -> Colour:
    """Return the colour of mask `index`: always the same, and far from its neighbours'.

    Steps of the golden ratio around the hue circle keep any first n hues nearly evenly spread.
    """
    hue = (0.58 + index * GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, *_TONES[index % len(_TONES)])
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_masks(
    image: UInt8Array,
    masks: Iterable[BoolArray | Patch],
    colours: Sequence[Colour] | None = None,
    alpha: float = 0.45,
) -> UInt8Array:
    """Draw each mask as a translucent fill with a crisp contour.

    Args:
        image: uint8 [H, W, 3], RGB.
        masks: bool [H, W] each, or cut to their boxes, drawn in this order; a generator works, one
            mask is held at a time.
        colours: One for each mask; by default `colour_of` its index.
        alpha: Opacity of the fill, 0..1.
    """
    out = image.copy()
    width = line_width(image)
    for index, mask in enumerate(masks):
        colour = colours[index % len(colours)] if colours else colour_of(index)
        patch = mask if isinstance(mask, Patch) else patch_of(np.asarray(mask, dtype=np.bool_))
        _draw_mask(out, patch, colour, alpha, width)
    return out


def _draw_mask(out: UInt8Array, patch: Patch, colour: Colour, alpha: float, width: int) -> None:
    x, y, mask = patch
    if not mask.size:
        return
    # What each of the 256 values of each channel becomes.
    fill = np.asarray(colour, dtype=np.float32) * alpha
    values = np.arange(256, dtype=np.float32)[:, None] * np.float32(1 - alpha) + fill
    table = (values + np.float32(0.5)).astype(np.uint8)[None]
    rows = max(_AT_ONCE // mask.shape[1], 1)
    for start in range(0, len(mask), rows):  # a mask may be as large as a large picture
        part = np.ascontiguousarray(mask[start : start + rows])
        view = out[y + start : y + start + len(part), x : x + mask.shape[1]]
        cv2.copyTo(cv2.LUT(view, table), part.view(np.uint8), view)
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask).view(np.uint8),
        cv2.RETR_CCOMP,
        cv2.CHAIN_APPROX_SIMPLE,
        offset=(x, y),
    )
    # Smooth edges take five times as long, and nobody sees those of broad lines.
    edge = cv2.LINE_AA if width <= _SMOOTH else cv2.LINE_8
    cv2.drawContours(out, contours, -1, colour, width, edge)


_SMOOTH = 8
"""The broadest lines, in pixels, whose edges are smoothed."""

_AT_ONCE = 1 << 20
"""Pixels blended at a time."""


def draw_points(
    image: UInt8Array, coords: npt.ArrayLike, labels: npt.ArrayLike, in_place: bool = False
) -> UInt8Array:
    """Draw points as discs with a white rim: green for label 1, red for label 0.

    Args:
        image: uint8 [H, W, 3], RGB.
        coords: [N, 2], XY in pixels.
        labels: [N].
        in_place: Draw on `image` itself, and return it.
    """
    out = image if in_place else image.copy()
    radius = max(3, round(max(image.shape[:2]) * 0.008))
    kinds = np.ravel(np.asarray(labels))
    for (x, y), label in zip(np.reshape(coords, (-1, 2)), kinds, strict=True):
        colour = _FOREGROUND if label == 1 else _BACKGROUND
        for size, fill in ((radius * 1.5, _DARK), (radius * 1.4, _WHITE), (radius, colour)):
            _disc(out, float(x), float(y), size, fill)
    return out


def draw_box(image: UInt8Array, box: npt.ArrayLike, colour: Colour = _BOX) -> UInt8Array:
    """Draw a box (x1, y1, x2, y2) as a thin line with a dark border that shows on any ground."""
    return draw_boxes(image, [box], colour)


def draw_boxes(
    image: UInt8Array,
    boxes: Iterable[npt.ArrayLike],
    colour: Colour = _BOX,
    in_place: bool = False,
) -> UInt8Array:
    """Draw boxes, each as `draw_box`, on one copy of the image, or on the image itself."""
    out = image if in_place else image.copy()
    width = line_width(image)
    for box in boxes:
        x1, y1, x2, y2 = (round(float(side)) for side in np.ravel(np.asarray(box)))
        cv2.rectangle(out, (x1, y1), (x2, y2), _DARK, width + 2)
        cv2.rectangle(out, (x1, y1), (x2, y2), colour, width)
    return out


def draw_labels(
    image: UInt8Array, labels: Sequence[tuple[Sequence[float], str]], in_place: bool = False
) -> UInt8Array:
    """Write texts, each with its lower left corner at a place (x, y), but inside the picture.

    Only the part of the picture under each text is drawn apart.

    Args:
        image: uint8 [H, W, 3], RGB.
        labels: A place and a text each.
        in_place: Draw on `image` itself, and return it.
    """
    out = image if in_place else image.copy()
    size = max(10, round(max(image.shape[:2]) / 60))
    font = ImageFont.load_default(size)
    height, width = image.shape[:2]
    for (x, y), text in labels:
        left, top, right, bottom = font.getbbox(text[:_LETTERS])
        wide, high = round(right - left) + 4, round(bottom - top) + 4
        column = int(min(max(x, 0), max(width - wide, 0)))
        row = int(min(max(y - high, 0), max(height - high, 0)))
        plate = Image.new("RGB", (wide, high), _DARK)
        drawer = ImageDraw.Draw(plate)
        drawer.text((2 - left, 2 - top), text[:_LETTERS], font=font, fill=_WHITE)
        part = out[row : row + high, column : column + wide]
        part[:] = np.asarray(plate)[: part.shape[0], : part.shape[1]]
    return out


_LETTERS = 40
"""Of a label that are drawn."""


def line_width(image: UInt8Array) -> int:
    """Return the width in pixels of lines drawn over `image`."""
    longest: int = max(image.shape[:2])
    return max(1, round(longest / 400))


_SHIFT = 4
"""Bits of sub-pixel precision in OpenCV's drawing coordinates."""


def _disc(out: UInt8Array, x: float, y: float, radius: float, colour: Colour) -> None:
    scale = 1 << _SHIFT
    centre = (round(x * scale), round(y * scale))
    cv2.circle(out, centre, round(radius * scale), colour, -1, cv2.LINE_AA, _SHIFT)
