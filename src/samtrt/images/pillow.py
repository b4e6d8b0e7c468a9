"""Pictures by Pillow, at their own depth, and by OpenCV where Pillow drops half of the bits."""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from samtrt.errors import ImageError
from samtrt.images.jpeg import Structure, structure_of
from samtrt.images.limits import Limits
from samtrt.images.orientation import orientation_of, turn
from samtrt.images.values import BYTES, Samples

_FILTERS = threading.Lock()
"""Python's warning filters belong to the process."""

_DEEP = ("I", "F")
_DEPTH, _COLOUR_TYPE = 24, 25
"""Where a PNG has its bits a sample and its kind of colour."""

BYTES_A_PIXEL = 16
"""At most: decoded (4), converted (4), as an array (3), and a progressive JPEG's coefficients."""
BYTES_A_DEEP_PIXEL = 28


def open_picture(
    data: bytes, limits: Limits, name: str, jpeg: Structure | None = None
) -> Image.Image:
    """Read a picture's header and check what it claims; no pixel is decoded.

    Args:
        data: The file's bytes.
        limits: What is refused.
        name: What messages call the picture.
        jpeg: How a JPEG is made, where that is known already.

    Raises:
        ImageError: where it is more than the limits allow.
        Exception: what Pillow raises for what it cannot read.
    """
    if data[:2] == b"\xff\xd8":
        scans = (jpeg or structure_of(data)).scans
        limits.check_count(scans, limits.max_scans, "scans", name)
    with _FILTERS, warnings.catch_warnings():
        # Pillow's own limit warns or raises by its own figure; ours is checked below.
        warnings.simplefilter("ignore")
        picture = Image.open(io.BytesIO(data), formats=limits.formats)
    deep = picture.format == "JPEG2000" or picture.mode.startswith(_DEEP) or _is_deep_png(data)
    limits.check_size(*picture.size, BYTES_A_DEEP_PIXEL if deep else BYTES_A_PIXEL, name)
    return picture


def samples_of(picture: Image.Image, data: bytes) -> Samples:
    """Decode a picture that `open_picture` opened; upright.

    Raises:
        Exception: what the decoders raise for damaged data.
    """
    notices = _frames(picture)
    orientation = 1 if picture.format == "TIFF" else orientation_of(picture.info)
    declared = _known(picture)
    alpha: npt.NDArray[Any] | None = None
    if _is_deep_png(data) and data[_COLOUR_TYPE] in (2, 4, 6):
        picture.load()  # which says what is damaged
        colour, alpha = _deep_png(data)
        samples = Samples(colour, alpha)
    elif picture.mode.startswith(_DEEP):
        picture.load()
        samples = Samples(np.asarray(picture), known=declared)
    elif picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or picture.has_transparency_data:
        # From premultiplied colours there is no other way than through their own mode.
        whole = picture.convert("LA") if picture.mode == "La" else picture
        bands = _array(whole.convert("RGBA"))
        samples = Samples(bands[..., :3], bands[..., 3], BYTES)
    elif picture.mode in ("1", "L"):
        samples = Samples(_array(picture.convert("L")), known=BYTES)
    else:
        samples = Samples(_array(_rgb(picture)), known=BYTES)
    return replace(
        samples,
        colour=turn(samples.colour, orientation),
        alpha=None if samples.alpha is None else turn(samples.alpha, orientation),
        notices=notices,
    )


_ROWS = 1 << 20
"""Pixels brought from Pillow to NumPy at a time."""


def _array(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Return a picture's bytes, [H, W] or [H, W, C].

    Some rows at a time: Pillow makes two copies of what it hands over.
    """
    picture.load()
    width, height = picture.size
    bands = len(picture.getbands())
    out = np.empty((height, width, bands)[: 2 if bands == 1 else 3], dtype=np.uint8)
    step = max(_ROWS // width, 1)
    for top in range(0, height, step):
        rows = picture.crop((0, top, width, min(top + step, height)))
        out[top : top + step] = np.asarray(rows)
    return out


def _rgb(picture: Image.Image) -> Image.Image:
    """Convert what has no alpha to RGB; inks by the file's colour profile, where it has one."""
    profile = picture.info.get("icc_profile")
    if picture.mode == "CMYK" and profile:
        picture.load()
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            screen = ImageCms.createProfile("sRGB")
            if turned := ImageCms.profileToProfile(picture, inks, screen, outputMode="RGB"):
                return turned
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile, or one of other colours: as if there were none
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy it


def _known(picture: Image.Image) -> tuple[float, float] | None:
    """Return the range of deep grey that the format itself declares and Pillow brought it to."""
    tiles = getattr(picture, "tile", None)
    scaled = picture.format == "JPEG2000" or (
        picture.format == "PPM" and tiles and tiles[0][0].startswith("ppm")
    )
    return (0.0, 65535.0) if scaled else None


def _frames(picture: Image.Image) -> tuple[str, ...]:
    """Say that there are more frames than the one that is read."""
    try:
        moves = picture.format in ("GIF", "PNG", "WEBP", "AVIF")
        several = moves and getattr(picture, "is_animated", False)
        picture.seek(0)
    except Exception:  # a damaged second frame; the first one counts
        return ()
    return ("it has several frames: the first is read",) if several else ()


def _is_deep_png(data: bytes) -> bool:
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[_DEPTH : _DEPTH + 1] == b"\x10"


def _deep_png(data: bytes) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return colour and alpha of a PNG of 16 bits a sample, of which Pillow keeps 8."""
    pixels = opencv(_plain_png(data))
    if pixels.ndim == 2:
        return pixels, None
    if pixels.shape[2] == 2:
        return pixels[..., 0], pixels[..., 1]
    return pixels[..., 2::-1], pixels[..., 3] if pixels.shape[2] == 4 else None


_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that have to do with a PNG's pixels."""


def _plain_png(data: bytes) -> bytes:
    """Return a PNG with nothing but its pixels.

    OpenCV allocates whatever length a chunk claims, and follows the frames of animations.

    Raises:
        ImageError: where a chunk is longer than the file.
    """
    kept, place = [data[:8]], 8
    while place < len(data):
        kind, end = (
            data[place + 4 : place + 8],
            place + 12 + int.from_bytes(data[place : place + 4], "big"),
        )
        if end > len(data):
            raise ImageError("it ends in the middle of a chunk")
        if kind in _PIXELS:
            kept.append(data[place:end])
        if kind == b"IEND":
            break
        place = end
    return b"".join(kept)


def opencv(data: bytes) -> npt.NDArray[Any]:
    """Decode by OpenCV at full depth: [H, W] or BGR(A) [H, W, C], not turned.

    Raises:
        ImageError: where it cannot.
    """
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        raise ImageError("its pixels cannot be decoded")
    return np.asarray(pixels)
