"""A command's run over many images: progress, what failed, and the line at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samtrt.cli.reading import ImageReader, failure
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.datasets.given import Given
    from samtrt.datasets.output import DatasetOutput
    from samtrt.predictor import Predictor
    from samtrt.sources import Source

Progress = Callable[[int, int], None]
"""Called with the parts of an image done and the parts in all."""


def load_given(source: Source, predictor: Predictor, read: ImageReader) -> Given:
    """Read a picture or an embedding; raises `ImageError`."""
    from samtrt.datasets.given import Given
    from samtrt.embeddings import is_embedding_file, read_embedding

    if is_embedding_file(source.path):
        stored = read_embedding(source.path, predictor)
        return Given(stored.embedding, stored.sha256, stored.info.image_name)
    picture = read.picture(source.path)
    return Given(picture.pixels, picture.sha256)


def settings_of(predictor: Predictor, read: ImageReader) -> dict[str, Any]:
    """Return what masks depend on beside image and prompts."""
    return {
        **predictor.identity,
        "decoder_precision": predictor.decoder.precision or predictor.manifest.precision.value,
        "mask_threshold": predictor.manifest.mask_threshold,
        **({"specks": predictor.specks} if predictor.specks else {}),
        **({"read_as": read.read_as} if read.read_as else {}),
    }


def run_over(
    waiting: Sequence[Source],
    every: Sequence[Source],
    files: DatasetOutput,
    read: ImageReader,
    load: Callable[[Source], Given],
    segment: Callable[[Source, Given, Progress], int],
    single: bool = False,
    tally: Tally | None = None,
) -> int:
    """Do what is not done, and write the files about all images; return how many failed.

    Args:
        waiting: Images to do.
        every: All images of the run, for the files about all of them, and for the line at the end.
        files: Where results go.
        read: Tells its notes above the progress bar.
        load: Reads an image, in a thread: the next one while this one is segmented.
        segment: Finds and writes an image's masks; returns how many there are.
        single: A single image's error is the command's own; in a folder it is reported and the
            run goes on.
        tally: Counts, for who asks.
    """
    tally = tally or Tally(skipped=len(every) - len(waiting))
    begun, merged = time.monotonic(), None
    try:
        do_images(waiting, read, load, segment, tally, single)
    finally:  # also when interrupted: what is done stays usable
        if tally.done or tally.skipped:
            merged = files.merge(every)
    tell_end(tally, time.monotonic() - begun, merged)
    return tally.failed


@dataclass
class Tally:
    """How many images of a run were done, failed, or had been done before; and their masks."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    masks: int = 0

    def add(self, other: Tally) -> None:
        """Count another's too."""
        self.done += other.done
        self.failed += other.failed
        self.skipped += other.skipped
        self.masks += other.masks


def do_images(
    waiting: Sequence[Source],
    read: ImageReader,
    load: Callable[[Source], Given],
    segment: Callable[[Source, Given, Progress], int],
    tally: Tally,
    single: bool = False,
    shows: bool = True,
) -> None:
    """Do what is not done, as `run_over`; `shows` is for the bar."""
    from samtrt.encoding import in_order

    with Bar(len(waiting), shows) as bar, closing(in_order(waiting, load, 1, ahead=1)) as ready:
        read.tell = bar.print
        for source, future in ready:
            try:
                tally.masks += segment(source, future.result(), bar.part)
                tally.done += 1
            except Exception as error:
                if single:
                    raise
                tally.failed += 1
                bar.print(failure(source.path, error))
            bar.next()


def tell_end(tally: Tally, seconds: float, merged: Path | None) -> None:
    """Print a run's last lines."""
    from samtrt.sources import counted

    found = f"{counted(tally.done, 'image')}, {counted(tally.masks, 'mask')}"
    parts = [f"{found} in {seconds:.1f} s"]
    parts += [f"{tally.skipped} done before"] if tally.skipped else []
    parts += [f"{tally.failed} failed"] if tally.failed else []
    typer.echo("; ".join(parts))
    if merged:
        typer.echo(printable(merged))


class Bar:
    """A progress bar over images, on a terminal, with the time left."""

    def __init__(self, images: int, shows: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.completed:.1f} of {task.total:.0f} done"),
            BarColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (shows and self._console.is_terminal),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what is piped stays apart from the bar
        )
        self._task = self._bar.add_task("images", total=images)
        self._images = 0

    def part(self, done: int, total: int) -> None:
        """Show how far the current image is."""
        self._bar.update(self._task, completed=self._images + done / total)

    def next(self) -> None:
        """Show the current image as finished."""
        self._images += 1
        self._bar.update(self._task, completed=self._images)

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(f"samtrt: {printable(line)}", markup=False, soft_wrap=True)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
