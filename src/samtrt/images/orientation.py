"""Which way up a picture is, from its EXIF or XMP, whatever else of them is broken."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from samtrt.files import open_regular
from samtrt.images.formats import FORMATS
from samtrt.images.tags import read_directory

ORIENTATION = 0x0112
_XMP = re.compile(r"tiff:Orientation(?:=\"|=\'|>)\s*([1-8])")


def orientation_of(info: Mapping[Any, Any]) -> int:
    """Return the EXIF orientation, 1..8, that a picture's `info` holds; 1 where it says nothing."""
    exif = info.get("exif")
    if not isinstance(exif, bytes):  # ImageMagick's way to keep EXIF in PNG
        exif = _from_hex(info.get("Raw profile type exif"))
    start = 6 if exif[:6] == b"Exif\0\0" else 0
    if directory := read_directory(exif[start:]):
        value = directory.integer(ORIENTATION)
        if ORIENTATION in directory.tags:
            return value if 1 <= value <= 8 else 1
    for key in ("xmp", "XML:com.adobe.xmp"):
        xmp = info.get(key, "")
        text = xmp.decode("latin-1") if isinstance(xmp, bytes) else str(xmp)
        if match := _XMP.search(text):
            return int(match[1])
    return 1


def orientation_of_file(path: Path) -> int:
    """Return the EXIF orientation, 1..8, of a picture's file; 1 where it says nothing."""
    try:
        with (
            warnings.catch_warnings(),
            open_regular(path) as file,
            Image.open(file, formats=FORMATS) as picture,
        ):
            warnings.simplefilter("ignore")
            if isinstance(picture, TiffImagePlugin.TiffImageFile):
                value = picture.tag_v2.get(ORIENTATION, 1)
                return value if isinstance(value, int) and 1 <= value <= 8 else 1
            return orientation_of(picture.info)
    except Exception:  # whatever a decoder raises: another reader may know the picture
        return 1


def _from_hex(profile: object) -> bytes:
    digits = "".join(profile.split()[2:]) if isinstance(profile, str) else ""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def turn(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn and mirror an array [H, W, ...] so that it stands upright."""
    return np.ascontiguousarray(turned(pixels, orientation))


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return a view of an array [H, W, ...] that stands upright: EXIF 2.3, 4.6.4 A."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
