"""Reading pictures from disk or memory as RGB arrays, with errors a user can act on."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from samtrt.errors import ImageError
from samtrt.types import UInt8Array

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded: a small file can claim any size. This is
also where Pillow itself refuses."""


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Read a picture as RGB, uint8 [H, W, 3], turned upright by its EXIF orientation.

    Raises:
        ImageError: where the file is missing, empty, truncated, not a picture, or too large.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"no image at {path}") from None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from None
    return decode_image(data, str(path), max_pixels)


def decode_image(
    data: bytes,
    name: str = "the image",
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
) -> UInt8Array:
    """Decode a picture held in memory; as `read_image`.

    Args:
        data: The file's bytes.
        name: What messages call the picture.
        max_pixels: The most that width times height may be.
        formats: Pillow's names of the formats to accept, such as ("JPEG", "PNG"); None for all.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow's own limit warns or raises by its own figure; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=formats) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise ImageError(
                        f"{name} has {width} x {height} pixels, more than the limit of "
                        f"{max_pixels:,}; make it smaller"
                    )
                return np.array(_to_rgb(ImageOps.exif_transpose(picture)))
    except ImageError:
        raise
    except UnidentifiedImageError:
        kinds = " (" + ", ".join(formats) + ")" if formats else ""
        raise ImageError(f"{name} is not an image in a format that can be read{kinds}") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more pixels than the limit of {max_pixels:,}; make it smaller"
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} is damaged or truncated: {error}") from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Convert to RGB; 16-bit grey is scaled down, which Pillow's own conversion would clip."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if grey.max(initial=0) > 255 else 255.0
        return Image.fromarray((grey * (255 / top)).round().astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")
