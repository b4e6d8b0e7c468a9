"""`samtrt embed`: encode images once and keep what prompts need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samtrt import tracing
from samtrt.choices import BackendName, JpegWork, PixelWork, Precision
from samtrt.cli.devices import DevicesOption, on_each
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    Engines,
    JpegOption,
    ModelDir,
    PixelsOption,
    RayOption,
    ThreadsOption,
)
from samtrt.cli.places import Target, find, target
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
    from samtrt.datasets.work import Outcome, Progress, Task
    from samtrt.encoding import Image
    from samtrt.predictor import Predictor
    from samtrt.sources import Source
    from samtrt.types import Embedding


def command(
    directory: ModelDir,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|FOLDER...")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Directory; NAME.safetensors for each image.")
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
    jpeg: JpegOption = JpegWork.HOST,
    checkpoint: CheckpointOption = None,
    ray: RayOption = None,
) -> None:
    """Encode images to files that 'predict' and 'auto' take instead of the images.

    Each file holds the hashes of its image and model, and is refused for any other. A restart
    skips what is done; an image that cannot be read, encoded or stored is reported, and the exit
    code is then 1.
    """
    from samtrt.datasets.work import Task
    from samtrt.embeddings import check_storable

    check_storable(precision)
    place = target(output, ray)
    sources = find(images, ray, recursive=recursive, leave_out=place)
    if notice := sources.notice():
        note(notice)
    engines = Engines(directory, backend, device, threads, checkpoint, pixels).on_cluster(ray)
    job = EmbedJob(
        engines,
        ImageReader(value_range, background, jpeg),
        place.folder,
        precision,
        force,
    )
    tasks = [Task(source) for source in sources.found]
    tracing.start("embed")
    with tracing.whole("samtrt embed", images=len(tasks)):
        failed = _run(job, place, tasks, ray, device)
    if failed:
        note(f"{failed} of {len(tasks)} images failed")
        raise typer.Exit(1)


def _run(
    job: EmbedJob, place: Target, tasks: Sequence[Task], ray: str | None, device: str | None
) -> int:
    """Encode all images; return how many failed."""
    alone = len(tasks) == 1
    if ray is not None:
        from samtrt.cluster.run import ClusterRun
        from samtrt.cluster.staging import staged

        run = ClusterRun(staged(job, tasks, place.address), tasks, ray)
        with Bar(len(tasks)) as bar:
            return _tell(job, place, run.outcomes(bar.print, bar.at), bar, alone)
    shows = "," not in (device or "")
    return sum(on_each(partial(_embed, job, place, alone=alone, shows=shows), device, tasks))


def _embed(
    job: EmbedJob,
    place: Target,
    device: str | None,
    tasks: Sequence[Task],
    *,
    alone: bool,
    shows: bool,
) -> int:
    """Encode images on one device; return how many failed. The error of one `alone` is raised.

    `shows` is for the bar.
    """
    from samtrt.datasets.work import run_here

    job = replace(job, engines=replace(job.engines, device=device))
    with closing(job.open()) as work, Bar(len(tasks), shows) as bar:
        job.read.tell = bar.print
        return _tell(job, place, run_here(work, tasks, lambda *_: None), bar, alone)


def _tell(
    job: EmbedJob, place: Target, outcomes: Iterator[tuple[Task, Outcome]], bar: Bar, alone: bool
) -> int:
    """Say what becomes of each image; return how many failed."""
    from samtrt.datasets.work import State

    failed = 0
    for task, outcome in outcomes:
        if outcome.error is not None:
            if alone:
                raise outcome.error
            failed += 1
            bar.print(failure(task.source.told, outcome.error))
        else:
            before = " is up to date" if outcome.state is State.BEFORE else ""
            typer.echo(printable(place.of(job.place(task.source))) + before)
        bar.next()
    return failed


@dataclass(frozen=True)
class EmbedJob:
    """Encodes each image to a file.

    Attributes:
        engines: What encodes.
        read: How images are read.
        output: Where files go.
        precision: What they are stored in.
        force: Whether files are replaced that are no embeddings.
    """

    engines: Engines
    read: ImageReader
    output: Path
    precision: Precision
    force: bool

    def place(self, source: Source) -> Path:
        """Return where an image's embedding goes."""
        from samtrt.embeddings import SUFFIX

        return self.output / source.name.with_name(source.name.name + SUFFIX)

    def moved(self, output: Path) -> EmbedJob:
        return replace(self, output=output)

    def open(self) -> _Work:
        predictor = self.engines.load()
        try:
            self.read.open(predictor)
        except BaseException:
            predictor.close()
            raise
        return _Work(self, predictor)


class _Work:
    """A predictor with the job that it is opened for."""

    def __init__(self, job: EmbedJob, predictor: Predictor) -> None:
        self._job, self._predictor = job, predictor

    @property
    def settings(self) -> dict[str, Any]:
        return {**self._predictor.identity}

    def is_done(self, task: Task) -> bool:
        """Tell whether there is a file of this image as this model encodes it, read and stored as
        asked."""
        from samtrt.embeddings import read_embedding
        from samtrt.errors import ImageError

        path = self._job.place(task.source)
        try:
            if not path.is_file():
                return False
            info = read_embedding(path, self._predictor, task.source.path).info
        except (ImageError, OSError):  # of another image or model, or damaged: make it anew
            return False
        return (info.stored_as, info.read_as) == (
            self._job.precision.value,
            self._job.read.read_as,
        )

    def each(self, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
        """Encode and write images, while threads read those that follow."""
        from samtrt.datasets.work import Outcome, State
        from samtrt.errors import SamtrtError

        hashes: dict[Task, str] = {}

        def read(task: Task) -> Image:
            with tracing.span("samtrt.read", image=task.source.shown):
                picture = self._job.read.picture(task.source.path)
            hashes[task] = picture.sha256
            return picture.pixels

        for task, encoded in self._predictor.encode_many(tasks, read):
            try:
                if isinstance(encoded, SamtrtError):
                    raise encoded
                with tracing.span("samtrt.write", image=task.source.shown):
                    self._write(task, encoded, hashes.pop(task))
            except SamtrtError as error:
                yield task, Outcome(State.FAILED, error=error)
            else:
                part(1, 1)
                yield task, Outcome(State.DONE)

    def _write(self, task: Task, embedding: Embedding, image_sha256: str) -> None:
        from samtrt.embeddings import save_embedding

        job, path = self._job, task.source.path
        save_embedding(
            *(job.place(task.source), embedding, self._predictor, path, job.precision),
            read_as=job.read.read_as,
            force=job.force,
            # Of the bytes that were decoded: the file may be another one by now.
            image_sha256=image_sha256,
        )

    def paths(self, source: Source) -> list[Path]:
        return [self._job.place(source)]

    def close(self) -> None:
        self._predictor.close()
