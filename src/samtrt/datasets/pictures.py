"""Pictures that a data set brings along, as every reader of such data sets shows them."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from samtrt.files import write_atomic
from samtrt.images.orientation import orientation_of_file
from samtrt.types import UInt8Array

_AS_THEY_ARE = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Suffixes that trainers look for, and what the file then has to be."""
PICTURE_SUFFIXES = tuple(_AS_THEY_ARE)
"""Of pictures that `provide_picture` makes."""
_MODES = ("1", "L", "P", "RGB")
"""Pillow's, of pictures that look alike in every reader: 8 bits, without alpha."""


def provide_picture(picture: Path, target: Path, pixels: UInt8Array | None) -> Path | None:
    """Bring a picture into a data set: a copy or, where readers would differ about it, a PNG.

    No link: trainers mend files in place.

    Args:
        picture: The picture's file.
        target: Where it goes, without suffix.
        pixels: What was read of it, RGB; None for an embedding.

    Returns:
        Where it is; None where there is neither a file nor pixels.

    Raises:
        OutputError: where it cannot be written.
    """
    if picture.is_file() and _is_plain(picture):
        path = target.with_name(target.name + picture.suffix.lower())
        with write_atomic(path) as temporary:
            shutil.copyfile(picture, temporary)
        return path
    if pixels is None:
        return None
    path = target.with_name(target.name + ".png")
    with write_atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
    return path


def _is_plain(picture: Path) -> bool:
    """Tell whether trainers see in a file what was read of it."""
    kind = _AS_THEY_ARE.get(picture.suffix.lower())
    try:
        with Image.open(picture) as image:
            if image.format != kind or image.mode not in _MODES or "transparency" in image.info:
                return False
            # All readers turn JPEG as EXIF says; the rest some do and some do not.
            return kind == "JPEG" or orientation_of_file(picture) == 1
    except Exception:  # whatever a decoder raises: what was read is written instead
        return False
