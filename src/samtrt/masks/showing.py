"""Masks as a picture: what notebooks show of results."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from samtrt.errors import ImageError
from samtrt.masks.drawing import draw_masks
from samtrt.masks.rle import Patch
from samtrt.types import BoolArray, UInt8Array

GREY = 48
LONGEST = 1024
"""Pixels along the longer side of what a notebook shows by itself; larger pictures are halved."""


def over(
    image: UInt8Array | None, masks: Iterable[BoolArray | Patch], size: tuple[int, ...]
) -> Image.Image:
    """Draw masks of a size (H, W) over an image, or over grey where there is none.

    Raises:
        ImageError: where the image is not uint8 [H, W, 3] of that size.
    """
    if image is None:
        image = np.full((*size, 3), GREY, dtype=np.uint8)
    if image.dtype != np.uint8 or image.shape != (*size, 3):
        raise ImageError(
            f"the masks are {size[1]} x {size[0]} pixels: draw them over that image, uint8 "
            f"[{size[0]}, {size[1]}, 3], not over {image.dtype} {list(image.shape)}"
        )
    return Image.fromarray(draw_masks(image, masks))


def as_png(picture: Image.Image) -> bytes:
    """Return a picture as PNG, no larger than a notebook shows it."""
    factor = -(-max(picture.size) // LONGEST)
    out = io.BytesIO()
    (picture.reduce(factor) if factor > 1 else picture).save(out, "PNG", compress_level=1)
    return out.getvalue()
