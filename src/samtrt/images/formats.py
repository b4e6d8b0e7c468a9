"""The kinds of file that are read as pictures, whether one is named or found in a folder.

The list is closed: a file's first bytes choose Pillow's plugin, not its suffix, and one of them
(EPS) starts Ghostscript, others (WMF, GRIB, HDF5, BUFR, MPEG) need a handler that is not there.
"""

from __future__ import annotations

from functools import cache

from PIL import Image

FORMATS = (
    "JPEG",
    "PNG",
    "TIFF",
    "WEBP",
    "BMP",
    "GIF",
    "JPEG2000",
    "AVIF",
    "PPM",
    "DIB",
    "ICO",
    "ICNS",
    "TGA",
    "PSD",
    "QOI",
    "DDS",
    "SGI",
    "PCX",
    "DCX",
    "FITS",
    "SPIDER",
    "SUN",
    "MSP",
    "XBM",
    "XPM",
)
"""Pillow's names of the formats that are read, the most frequent first."""

UPLOADED = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Those that a server takes from whoever sends them: fewer decoders meet what nobody has seen."""


@cache
def suffixes() -> tuple[str, ...]:
    """Return the suffixes of these formats, in lower case and with their dot."""
    Image.init()
    return tuple(sorted(s for s, kind in Image.registered_extensions().items() if kind in FORMATS))
