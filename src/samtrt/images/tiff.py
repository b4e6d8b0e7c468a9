"""TIFF beyond 8 bits a sample, of more bands than colours, or of floats: Pillow has none of it.

Tags say what the values mean. tifffile decodes them, or OpenCV (with libtiff) where tifffile
needs another package for it.
"""

from __future__ import annotations

import io
import logging
import math
import re
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from samtrt.errors import ImageError
from samtrt.images.limits import Limits
from samtrt.images.orientation import ORIENTATION, turn
from samtrt.images.pillow import opencv
from samtrt.images.tags import Directory
from samtrt.images.values import BYTES, Samples, ValueRange

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
SAMPLES, PLANAR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS = 277, 284, 322, 323, 324
STRIP_OFFSETS, ROWS, STRIP_BYTES = 273, 278, 279
EXTRA, FORMAT, DEPTH, NODATA = 338, 339, 32997, 42113
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, LAB, ICC_LAB = 0, 1, 2, 5, 8, 9
_ASSOCIATED, _UNASSOCIATED = 1, 2
_ALPHAS = {_ASSOCIATED, _UNASSOCIATED}
_DEFLATE = (8, 32946)
_MOST_SAMPLES = 512
_BYTES = (1, 2, 7)
"""Types of tags that libraries keep as they are, not as a list of numbers."""

logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_plain(directory: Directory) -> bool:
    """Tell whether these are at most 8 bits a sample, unsigned, which Pillow reads right."""
    bits, kinds = directory.integers(BITS) or (1,), directory.integers(FORMAT) or (1,)
    return max(bits) <= 8 and set(kinds) <= {1, 4}


def check(directory: Directory, limits: Limits, name: str) -> None:
    """Check what a TIFF's tags claim, before a library reads them.

    Raises:
        ImageError: where it is more than the limits allow.
    """
    for tag in directory.tags.values():
        if tag.kind not in _BYTES:
            limits.check_count(
                tag.count, limits.max_segments, "values in one tag, such as its strips", name
            )
    width, height = directory.integer(WIDTH), directory.integer(HEIGHT)
    samples = directory.integer(SAMPLES, 1)
    limits.check_count(samples, _MOST_SAMPLES, "bands", name)
    # Bits may be left out, and floats of 64 bits are the largest.
    bits = max(directory.integers(BITS) or (1,))
    held = 16 if is_plain(directory) else 8 + 3 * samples * -(-bits // 8)
    limits.check_size(width, height, max(held, 2 * samples), name)
    if (depth := directory.integer(DEPTH, 1)) > 1:
        raise ImageError(f"{name} is a volume of {depth} planes; save the plane to be read")
    tile = directory.integer(TILE_WIDTH, 1), directory.integer(TILE_HEIGHT, 1)
    room = (max(width, 4096), max(height, 4096))
    if tile[0] > 2 * room[0] or tile[1] > 2 * room[1]:
        raise ImageError(f"{name} has tiles of {tile[0]} x {tile[1]} pixels, larger than itself")
    _check_coverage(directory, name)


def _check_coverage(directory: Directory, name: str) -> None:
    """Raise `ImageError` where there are too few strips or tiles for the size that is declared.

    Decoders leave the rest black.
    """
    width, height = directory.integer(WIDTH), directory.integer(HEIGHT)
    planes = directory.integer(SAMPLES, 1) if directory.integer(PLANAR, 1) == 2 else 1
    if TILE_OFFSETS in directory.tags:
        found = directory.tags[TILE_OFFSETS].count
        sides = directory.integer(TILE_WIDTH), directory.integer(TILE_HEIGHT)
        if min(sides) < 1:
            raise ImageError(f"{name} is damaged: its tiles have no size")
        needed = -(-width // sides[0]) * -(-height // sides[1]) * planes
    else:
        found = directory.tags[STRIP_OFFSETS].count if STRIP_OFFSETS in directory.tags else 0
        rows = directory.integer(ROWS, height) or height
        needed = -(-height // rows) * planes
    if found < needed:
        raise ImageError(
            f"{name} is damaged or truncated: it has {found:,} strips or tiles, and its size needs "
            f"{needed:,}"
        )
    if TILE_OFFSETS not in directory.tags and _is_unpacked(directory):
        bits = sum(directory.integers(BITS, _MOST_SAMPLES)) or directory.integer(SAMPLES, 1)
        there = sum(directory.integers(STRIP_BYTES, needed))
        if STRIP_BYTES in directory.tags and there < height * (width * bits // 8):
            raise ImageError(
                f"{name} is damaged or truncated: its strips have {there:,} bytes, and its size "
                "needs more"
            )


def _is_unpacked(directory: Directory) -> bool:
    """Tell whether each sample takes the bits that it is said to have."""
    plain = directory.integer(PHOTOMETRIC, 1) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, 3, CMYK)
    return plain and directory.integer(COMPRESSION, 1) == 1


def samples_of(data: bytes, directory: Directory) -> Samples:
    """Decode a TIFF's first page, upright.

    Raises:
        ImageError: where its kind of data is not supported.
        Exception: what the decoders raise for damaged data.
    """
    bands, photometric = _bands(data, directory)
    if bands.dtype.kind not in "iuf":
        raise ImageError(f"its values are {bands.dtype}: not numbers that have a brightness")
    notices: list[str] = []
    if directory.more:
        notices.append("it has several pages: the first is read")
    colours, alpha = _split(bands, photometric, directory, notices)
    orientation = directory.integer(ORIENTATION, 1)
    return Samples(
        colour=turn(colours, orientation),
        alpha=None if alpha is None else turn(alpha, orientation),
        known=_known(directory, bands.dtype),
        nodata=_nodata(directory),
        white_is_zero=photometric == WHITE_IS_ZERO,
        notices=tuple(notices),
    )


def _bands(data: bytes, directory: Directory) -> tuple[npt.NDArray[Any], int]:
    """Return all bands, [H, W, C], and how they are to be understood."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        photometric = int(page.photometric)
        series = _written_flat(file)
        height, width = page.imagelength, page.imagewidth
        if series is not None:
            return series, RGB
        if page.imagedepth > 1:
            raise ImageError("it is a volume; save the plane to be read")
        if int(page.compression) in _DEFLATE:
            _check_segments(page)
        try:
            bands = page.asarray(maxworkers=1, squeeze=False)
        except (KeyError, ValueError) as error:
            if "imagecodecs" not in str(error):
                raise
            return _by_opencv(data, page, directory), photometric
        # Planes, depth, height, width, samples.
        bands = bands[:, 0].transpose(1, 2, 0, 3).reshape(height, width, -1)
        return bands, photometric


def _written_flat(file: tifffile.TiffFile) -> npt.NDArray[Any] | None:
    """Return the colours that tifffile's own writer stores as a page for each row.

    It does so with floats [H, W, 3] where it is not told that they are RGB; its description says.
    """
    page = file.pages.first
    shape = re.search(r'"shape": \[(\d+), (\d+), (3|4)\]', page.description)
    if not shape or page.samplesperpixel != 1 or page.imagewidth != int(shape[3]):
        return None
    if page.imagelength != int(shape[2]) or page.compression != 1 or page.dtype is None:
        return None
    height = int(shape[1])
    if height * page.imagelength * page.imagewidth * page.dtype.itemsize > file.filehandle.size:
        return None
    return np.asarray(file.series[0].asarray(maxworkers=1)).reshape(height, page.imagelength, -1)


def _check_segments(page: Any) -> None:
    """Raise `ImageError` for a strip that unpacks to more than it declares: a bomb."""
    tile = (
        page.tilewidth * page.tilelength
        if page.is_tiled
        else page.imagewidth * (min(page.rowsperstrip, page.imagelength))
    )
    most = tile * page.samplesperpixel * page.dtype.itemsize + 1024
    for raw, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts):
        if raw is None:
            continue
        unpacker = zlib.decompressobj()
        left = most
        while raw and left >= 0:
            left -= len(unpacker.decompress(raw, 1 << 20))
            raw = unpacker.unconsumed_tail
        if left < 0:
            raise ImageError("one of its strips unpacks to more than it declares")


def _by_opencv(data: bytes, page: Any, directory: Directory) -> npt.NDArray[Any]:
    samples = directory.integer(SAMPLES, 1)
    kind = page.dtype.kind if page.dtype is not None else ""
    bits = max(directory.integers(BITS) or (1,))
    fits = (kind, bits) in {("u", 16), ("i", 16), ("u", 32), ("i", 32), ("f", 32), ("f", 64)}
    if not fits or samples not in (1, 3, 4) or directory.integer(PLANAR, 1) != 1:
        raise ImageError(
            f"its {page.compression.name} compression of {bits}-bit values needs the package "
            "'imagecodecs'; install it with: pip install 'samtrt[tiff]'"
        )
    pixels = opencv(data)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != page.dtype or pixels.shape != (page.imagelength, page.imagewidth, samples):
        raise ImageError("it is damaged: its values are not what its tags say")
    return pixels if samples == 1 else pixels[..., [2, 1, 0, 3][:samples]]


def _split(
    bands: npt.NDArray[Any], photometric: int, directory: Directory, notices: list[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Tell colours [H, W] or [H, W, 3] from alpha [H, W] among the bands."""
    count = bands.shape[2]
    if photometric in (CMYK, LAB, ICC_LAB) and bands.dtype.kind in "iu":
        return _converted(bands, photometric), None
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise ImageError(f"its colours are of a kind that is not read (photometric {photometric})")
    extra = directory.integers(EXTRA)
    colours = 3 if photometric == RGB and count >= 3 else 1
    if photometric != RGB and count >= 3 and (count == 3 or not _ALPHAS & set(extra[:1])):
        colours = 3  # bands of one picture, as geographic tools write them
        notices.append(f"its bands 1, 2 and 3 of {count} are taken as red, green and blue")
    # Bands beyond the photometric ones are "extra", the last of all.
    kind = extra[0] if extra and count > colours else 0
    shown = bands[..., :3] if colours == 3 else bands[..., 0]
    if kind in _ALPHAS:
        alpha = bands[..., colours]
        return (_unmultiplied(shown, alpha) if kind == _ASSOCIATED else shown), alpha
    if count > colours and not notices:
        notices.append(f"of its {count} bands, {'3 are' if colours == 3 else '1 is'} shown")
    return shown, None


def _unmultiplied(colour: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Undo the multiplication of colours by their alpha."""
    integer = colour.dtype.kind in "iu"
    opaque = float(np.iinfo(alpha.dtype).max) if integer else 1.0
    share = alpha.astype(np.float64) / opaque
    share = share if colour.ndim == 2 else share[..., None]
    whole = np.divide(colour, share, out=np.zeros(colour.shape), where=share > 0)
    if integer:
        whole = np.clip(np.rint(whole), 0, opaque)
    return np.asarray(whole, dtype=colour.dtype)


def _converted(bands: npt.NDArray[Any], photometric: int) -> npt.NDArray[Any]:
    """Bring inks or L*a*b* of more than 8 bits to RGB of 8."""
    if bands.dtype.itemsize != 2:
        raise ImageError(f"its colours of {8 * bands.dtype.itemsize} bits are not read")
    high = (bands.view(np.uint16) >> 8).astype(np.uint8)
    if photometric == CMYK:
        mode, planes = "CMYK", high[..., :4]
    else:
        mode, planes = "LAB", high[..., :3]
        if photometric == ICC_LAB:  # has 128 for grey, where Pillow takes signed a* and b*
            planes = planes ^ np.array([0, 128, 128], dtype=np.uint8)
    size = (planes.shape[1], planes.shape[0])
    picture = Image.frombytes(mode, size, np.ascontiguousarray(planes).tobytes(), "raw", mode)
    return np.asarray(picture.convert("RGB"))


def _known(directory: Directory, dtype: np.dtype[Any]) -> ValueRange | None:
    """Return the range that the tags declare: by ImageJ, or by bits that do not fill the type."""
    if directory.integer(PHOTOMETRIC) in (CMYK, LAB, ICC_LAB):
        return BYTES
    text = directory.text(DESCRIPTION)
    if text.startswith("ImageJ="):
        ends = [re.search(rf"^{end}=(\S+)$", text, re.MULTILINE) for end in ("min", "max")]
        try:
            low, high = (float(end[1]) for end in ends if end)
        except ValueError:
            low = high = 0.0
        if low < high and math.isfinite(high - low):
            return low, high
    bits = max(directory.integers(BITS) or (1,))
    if dtype.kind == "u" and bits < 8 * dtype.itemsize:
        return 0.0, 2.0**bits - 1
    return BYTES if dtype == np.uint8 else None


def _nodata(directory: Directory) -> float | None:
    """Return GDAL's value for no data."""
    try:
        return float(directory.text(NODATA))
    except ValueError:
        return None
