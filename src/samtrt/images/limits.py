"""What a picture may ask for before a byte of it is decoded: a small file can claim any size."""

from __future__ import annotations

from dataclasses import dataclass

from samtrt.errors import ImageError
from samtrt.images.formats import FORMATS

MAX_PIXELS = 178_956_970
"""Width times height, where nothing else is asked for. This is also where Pillow itself refuses."""

GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """The most that one picture may be.

    Attributes:
        formats: Pillow's names of the formats that are read.
        max_file_bytes: Bytes of the file.
        max_pixels: Width times height.
        max_side: Pixels of the longer side.
        max_ratio: The longer side divided by the shorter one. A model resizes the longer side to
            1024 or less, so that beyond it nothing is left of the shorter one.
        max_scans: Passes of a progressive JPEG, each of which costs as much as the picture.
        max_segments: Strips or tiles of a TIFF, and the values of any other of its tags.
        max_memory: Bytes that decoding needs at its worst, estimated from size, bands and depth.
    """

    formats: tuple[str, ...] = FORMATS
    max_file_bytes: int = 2 * GIB
    max_pixels: int = MAX_PIXELS
    max_side: int = 100_000
    max_ratio: int = 1_000
    max_scans: int = 200
    max_segments: int = 1_000_000
    max_memory: int = 6 * GIB

    def check_file(self, size: int, name: str) -> None:
        """Raise `ImageError` for a file of more bytes than are read."""
        if size > self.max_file_bytes:
            raise ImageError(
                f"{name} has {size:,} bytes, more than the limit of {self.max_file_bytes:,}"
            )

    def check_size(self, width: int, height: int, bytes_a_pixel: int, name: str) -> None:
        """Raise `ImageError` for a picture of more pixels, or of a worse shape, than allowed.

        Args:
            width, height: As the file declares them.
            bytes_a_pixel: What decoding holds at once for each pixel.
            name: What messages call the picture.
        """
        short, long = sorted((width, height))
        what = f"{name} has {width} x {height} pixels"
        if short < 1:
            raise ImageError(f"{what}: there is nothing in it")
        if width * height > self.max_pixels:
            raise ImageError(f"{what}, more than the limit of {self.max_pixels:,}; make it smaller")
        if long > self.max_side:
            raise ImageError(
                f"{what}, and the limit of a side is {self.max_side:,}; cut it into tiles"
            )
        if long > self.max_ratio * short:
            raise ImageError(
                f"{what}: one side is more than {self.max_ratio:,} times the other, the limit; "
                "cut it into tiles"
            )
        if (memory := width * height * bytes_a_pixel) > self.max_memory:
            raise ImageError(
                f"{what} that take {memory:,} bytes to decode, more than the limit of "
                f"{self.max_memory:,}; make it smaller"
            )

    def check_count(self, count: int, most: int, what: str, name: str) -> None:
        """Raise `ImageError` where a file has more of something than allowed."""
        if count > most:
            raise ImageError(f"{name} has {count:,} {what}, more than the limit of {most:,}")
