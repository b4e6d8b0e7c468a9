"""Files to pixels: what is read, what is refused, and what is assumed about their values."""

from __future__ import annotations

from samtrt.images.formats import FORMATS, UPLOADED, suffixes
from samtrt.images.limits import MAX_PIXELS, Limits
from samtrt.images.masks import read_mask
from samtrt.images.read import (
    ImageNotice,
    Picture,
    ReadOptions,
    decode_image,
    decode_picture,
    read_image,
    read_picture,
)
from samtrt.images.values import parse_range

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "UPLOADED",
    "ImageNotice",
    "Limits",
    "Picture",
    "ReadOptions",
    "decode_image",
    "decode_picture",
    "parse_range",
    "read_image",
    "read_mask",
    "read_picture",
    "suffixes",
]
