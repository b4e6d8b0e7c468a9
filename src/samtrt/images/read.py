"""Reading pictures from disk or memory as RGB arrays, with errors a user can act on."""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from samtrt.errors import ImageError
from samtrt.files import open_regular
from samtrt.images import pillow, tiff
from samtrt.images.limits import Limits
from samtrt.images.tags import read_directory
from samtrt.images.values import Samples, ValueRange, to_rgb
from samtrt.types import UInt8Array


class ImageNotice(UserWarning):
    """What had to be assumed to read a picture."""


@dataclass(frozen=True)
class ReadOptions:
    """How pictures are read.

    Attributes:
        value_range: The values of black and white; None for what the file declares or, where it
            declares nothing and has more than 8 bits, for the picture's own.
        background: What transparent parts are shown over: a colour's name or code.
        limits: What is refused.
    """

    value_range: ValueRange | None = None
    background: str = "white"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Picture:
    """A picture that was read.

    Attributes:
        pixels: RGB, uint8 [H, W, 3], upright.
        notices: What was assumed to read it, a sentence each.
        sha256: Hash of the file's bytes, those that were decoded; empty for bytes in memory.
    """

    pixels: UInt8Array
    notices: tuple[str, ...] = ()
    sha256: str = ""


def read_image(
    path: str | Path, value_range: ValueRange | None = None, background: str = "white"
) -> UInt8Array:
    """Read a picture as RGB, uint8 [H, W, 3], turned upright by its EXIF orientation.

    Pictures of more than 8 bits are brought to 8 by the range that their file declares, or else by
    percentiles of their own values. An `ImageNotice` (a warning) says what was assumed.

    Args:
        path: A file.
        value_range: The values to be shown as black and white, instead.
        background: A colour's name or code; transparent parts are shown over it.

    Raises:
        ImageError: where the file is missing, empty, truncated, not a picture, or too large.
    """
    picture = read_picture(path, ReadOptions(value_range, background))
    for notice in picture.notices:
        warnings.warn(f"{path}: {notice}", ImageNotice, stacklevel=2)
    return picture.pixels


def read_picture(path: str | Path, options: ReadOptions | None = None) -> Picture:
    """Read a picture; tell what was assumed, and the file's hash. Raises as `read_image`."""
    options = options or ReadOptions()
    data = read_file(path, options.limits)
    picture = decode_picture(data, str(path), options)
    return replace(picture, sha256=hashlib.sha256(data).hexdigest())


def read_file(path: str | Path, limits: Limits) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        ImageError: where there is none, it cannot be read, or is larger than the limit.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            limits.check_file(size, str(path))
            return file.read(size)  # no more: as much is allocated as is asked for
    except FileNotFoundError:
        raise ImageError(f"no image at {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {path}: {reason}") from None


def decode_image(data: bytes, name: str = "the image", limits: Limits | None = None) -> UInt8Array:
    """Decode a picture held in memory, RGB, uint8 [H, W, 3]; as `decode_picture`."""
    return decode_picture(data, name, ReadOptions(limits=limits or Limits())).pixels


def decode_picture(
    data: bytes, name: str = "the image", options: ReadOptions | None = None
) -> Picture:
    """Decode a picture held in memory.

    Args:
        data: The file's bytes.
        name: What messages call the picture.
        options: How it is read, and what is refused.

    Raises:
        ImageError: where it is empty, truncated, not a picture, or more than the limits allow.
    """
    options = options or ReadOptions()
    samples = decode_samples(data, name, options.limits)
    try:
        pixels, notices = to_rgb(samples, options.value_range, options.background)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError:
        raise ImageError(f"{name} takes more memory than there is; make it smaller") from None
    return Picture(pixels, notices)


def decode_samples(data: bytes, name: str, limits: Limits) -> Samples:
    """Decode a picture at its own depth; raises as `decode_picture`."""
    if not data:
        raise ImageError(f"{name} is empty (0 bytes)")
    limits.check_file(len(data), name)
    try:
        return _decode(data, name, limits)
    except ImageError as error:
        text = str(error)
        raise (error if text.startswith(name) else ImageError(f"{name}: {text}")) from None
    except UnidentifiedImageError:
        shown = limits.formats[:6]
        more = " and others" if len(limits.formats) > len(shown) else ""
        raise ImageError(
            f"{name} is not an image in a format that can be read ({', '.join(shown)}{more})"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more pixels than the limit of {limits.max_pixels:,}; make it smaller"
        ) from None
    except MemoryError:
        raise ImageError(f"{name} takes more memory than there is; make it smaller") from None
    except Exception as error:  # whatever a decoder raises for damaged data: no list is complete
        raise ImageError(f"{name} is damaged or truncated: {_reason(error)}") from None


def _decode(data: bytes, name: str, limits: Limits) -> Samples:
    directory = read_directory(data) if "TIFF" in limits.formats else None
    if directory is not None:
        tiff.check(directory, limits, name)
        if not tiff.is_plain(directory):
            return tiff.samples_of(data, directory)
        data = directory.alone()
    try:
        picture = pillow.open_picture(data, limits, name)
    except UnidentifiedImageError:
        if directory is None:
            raise
        return tiff.samples_of(data, directory)  # of more bands than Pillow knows a mode for
    with closing(picture):  # which frees its pixels; leaving `with picture` would not
        samples = pillow.samples_of(picture, data)
    if directory is not None and directory.more:
        notice = "it has several pages: the first is read"
        return replace(samples, notices=(*samples.notices, notice))
    return samples


def _reason(error: Exception) -> str:
    """Return the first line of what a decoder says, or else what kind of error it is."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
