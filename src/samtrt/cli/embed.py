"""`samtrt embed`: encode images once and keep what prompts need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import BackendName, PixelWork, Precision
from samtrt.cli.devices import DevicesOption, on_each
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    ModelDir,
    PixelsOption,
    ThreadsOption,
    load_predictor,
)
from samtrt.cli.reading import (
    BackgroundOption,
    ForceOption,
    ImageReader,
    RecursiveOption,
    ValueRangeOption,
    failure,
    note,
)
from samtrt.cli.runs import Bar
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.predictor import Predictor
    from samtrt.sources import Source
    from samtrt.types import UInt8Array


def command(
    directory: ModelDir,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER...")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory; NAME.safetensors for each image.")
    ],
    precision: Annotated[
        Precision, typer.Option("--precision", help="fp16 takes half the room of fp32.")
    ] = Precision.FP16,
    recursive: RecursiveOption = False,
    value_range: ValueRangeOption = None,
    background: BackgroundOption = "white",
    force: ForceOption = False,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DevicesOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    checkpoint: CheckpointOption = None,
) -> None:
    """Encode images to files that 'predict' and 'auto' take instead of the images.

    Each file holds the hashes of its image and model, and is refused for any other. A restart
    skips what is done; an image that cannot be read, encoded or stored is reported, and the exit
    code is then 1.
    """
    from samtrt.embeddings import check_storable
    from samtrt.sources import find_sources

    check_storable(precision)
    read = ImageReader(value_range, background)
    sources = find_sources(images, recursive=recursive, leave_out=output)
    if notice := sources.notice():
        note(notice)
    load = partial(
        load_predictor, directory, backend, threads=threads, checkpoint=checkpoint, pixels=pixels
    )
    alone = len(sources.found) == 1
    one = "," not in (device or "")
    embed = partial(_embed, load, read, output, precision, force=force, alone=alone, shows=one)
    if failed := sum(on_each(embed, device, sources.found)):
        note(f"{failed} of {len(sources.found)} images failed")
        raise typer.Exit(1)


def _embed(
    load: Callable[..., Predictor],
    read: ImageReader,
    output: Path,
    precision: Precision,
    device: str | None,
    sources: Sequence[Source],
    *,
    force: bool,
    alone: bool,
    shows: bool,
) -> int:
    """Encode images on one device; return how many failed. The error of one `alone` is raised.

    `shows` is for the bar.
    """
    from samtrt.embeddings import SUFFIX, save_embedding
    from samtrt.errors import SamtrtError

    failed = 0
    with load(device=device) as predictor:

        def place(source: Source) -> Path:
            return output / source.name.with_name(source.name.name + SUFFIX)

        def not_done() -> Iterator[_Image]:
            for source in sources:
                path = place(source)
                if _is_done(path, predictor, source.path, precision, read.read_as):
                    typer.echo(f"{printable(path)} is up to date")
                    bar.next()
                else:
                    yield _Image(source)

        with Bar(len(sources), shows) as bar:
            read.tell = bar.print
            for image, encoded in predictor.encode_many(not_done(), lambda one: one.read(read)):
                source = image.source
                path = place(source)
                try:
                    if isinstance(encoded, SamtrtError):
                        raise encoded
                    save_embedding(
                        *(path, encoded, predictor, source.path, precision),
                        read_as=read.read_as,
                        force=force,
                        image_sha256=image.sha256,
                    )
                except SamtrtError as error:
                    if alone:
                        raise
                    failed += 1
                    bar.print(failure(source.path, error))
                else:
                    typer.echo(printable(path))
                bar.next()
    return failed


@dataclass
class _Image:
    """An image to encode, and the hash of the bytes that were decoded, once they are."""

    source: Source
    sha256: str | None = None

    def read(self, read: ImageReader) -> UInt8Array:
        picture = read.picture(self.source.path)
        self.sha256 = picture.sha256
        return picture.pixels


def _is_done(
    path: Path, predictor: Predictor, image: Path, precision: Precision, read_as: str
) -> bool:
    """Tell whether `path` holds this image as this model encodes it, read and stored as asked."""
    from samtrt.embeddings import read_embedding
    from samtrt.errors import ImageError

    try:
        if not path.is_file():
            return False
        info = read_embedding(path, predictor, image).info
        return (info.stored_as, info.read_as) == (precision.value, read_as)
    except (ImageError, OSError):  # of another image or model, or damaged: make it anew
        return False
