"""How the commands read images: the options for it, and what was assumed or failed, in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import JpegWork
from samtrt.errors import SamtrtError
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.encoding import Image
    from samtrt.images import Picture, ReadOptions
    from samtrt.predictor import Predictor
    from samtrt.preparation.jpeg import JpegPicture, JpegReader

ValueRangeOption = Annotated[
    str | None,
    typer.Option(
        "--value-range",
        metavar="LOW:HIGH",
        help="Values that are black and white. Default: 8 bits as they are; else what the file "
        "declares, or percentiles of the image.",
    ),
]
BackgroundOption = Annotated[
    str,
    typer.Option("--background", metavar="COLOUR", help="What transparent parts are shown over."),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", "-r", help="Search the folders in a folder too.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace files that samtrt did not write.")
]


def note(line: str) -> None:
    """Print a line to standard error."""
    typer.echo(f"samtrt: {printable(line)}", err=True)


def failure(told: str, error: Exception) -> str:
    """Say what failed, with the image's place where the error does not say it."""
    what = str(error) if isinstance(error, SamtrtError) else f"{type(error).__name__}: {error}"
    return f"failed: {what}" if told in what else f"failed: {told}: {what}"


class ImageReader:
    """Reads images as the options say, from any thread, and tells what was assumed."""

    def __init__(
        self,
        value_range: str | None,
        background: str,
        jpeg: JpegWork = JpegWork.HOST,
        tell: Callable[[str], None] = note,
    ) -> None:
        from samtrt.images import ReadOptions, parse_range
        from samtrt.images.values import colour_named

        colour_named(background)  # before any work
        self.options: ReadOptions = ReadOptions(
            parse_range(value_range) if value_range is not None else None, background
        )
        self.jpeg = jpeg
        self.tell = tell
        self._on_gpu: JpegReader | None = None

    def open(self, predictor: Predictor) -> None:
        """Get ready to read for a predictor; before that, JPEG is read on the host.

        Raises:
            BackendError, MissingExtraError: where JPEG is to be decoded on a GPU and cannot be.
        """
        if self.jpeg is JpegWork.GPU:
            self._on_gpu = predictor.jpeg_reader()

    @property
    def read_as(self) -> str:
        """What the user chose, in words; empty where it is the default."""
        low_high, over = self.options.value_range, self.options.background
        parts = [f"{low_high[0]:g}:{low_high[1]:g}"] if low_high else []
        return " ".join(parts + ([f"over {over}"] if over != "white" else []))

    def __call__(self, path: Path) -> Image:
        """Read an image, RGB, uint8 [H, W, 3]; raises `ImageError`."""
        return self.picture(path).pixels

    def picture(self, path: Path) -> Picture | JpegPicture:
        """Read an image with the hash of what was read; raises `ImageError`."""
        from samtrt.images import read_picture

        read = self._on_gpu.read if self._on_gpu else read_picture
        picture = read(path, self.options)
        for notice in picture.notices:
            self.tell(f"note: {path}: {notice}")
        return picture
