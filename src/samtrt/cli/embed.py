"""`samtrt embed`: encode images once and keep what prompts need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import BackendName, PixelWork, Precision
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    DeviceOption,
    ModelDir,
    PixelsOption,
    ThreadsOption,
    load_predictor,
)

if TYPE_CHECKING:
    from samtrt.predictor import Predictor


def embed(
    directory: ModelDir,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER...")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory; NAME.safetensors for each image.")
    ],
    precision: Annotated[
        Precision, typer.Option("--precision", help="fp16 takes half the room of fp32.")
    ] = Precision.FP16,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    checkpoint: CheckpointOption = None,
) -> None:
    """Encode images to files that 'predict' and 'auto' take instead of the images.

    Each file holds the hashes of its image and model, and is refused for any other. A restart
    skips what is done; an image that cannot be read is reported, and the exit code is then 1.
    """
    from samtrt.embeddings import SUFFIX, check_storable, save_embedding
    from samtrt.errors import ImageError
    from samtrt.images import read_image
    from samtrt.sources import find_sources

    check_storable(precision)
    sources = find_sources(images)
    failed = 0
    with load_predictor(directory, backend, device, threads, checkpoint, pixels) as predictor:

        def place(source: Path) -> Path:
            return output / (source.stem + SUFFIX)

        def not_done() -> Iterator[Path]:
            for source in sources:
                path = place(source)
                if _is_done(path, predictor, source, precision):
                    typer.echo(f"{path} is up to date")
                else:
                    yield source

        for source, encoded in predictor.encode_many(not_done(), read_image):
            if not isinstance(encoded, ImageError):
                path = place(source)
                save_embedding(path, encoded, predictor, source, precision)
                typer.echo(path)
            elif len(sources) == 1:
                raise encoded
            else:
                failed += 1
                typer.secho(f"samtrt: skipped: {encoded}", err=True)
    if failed:
        raise typer.Exit(1)


def _is_done(path: Path, predictor: Predictor, image: Path, precision: Precision) -> bool:
    """Tell whether `path` holds this image as this predictor encodes it, stored as asked."""
    from samtrt.embeddings import load_embedding, read_embedding_info
    from samtrt.errors import ImageError

    if not path.is_file():
        return False
    try:
        load_embedding(path, predictor, image)
        return read_embedding_info(path).stored_as == precision.value
    except ImageError:  # of another image or model, or damaged: make it anew
        return False
