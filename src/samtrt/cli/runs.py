"""A command's run over many images: who does it, progress, what failed, and the line at its end."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import typer

from samtrt import tracing
from samtrt.cli.devices import on_each
from samtrt.cli.reading import ImageReader, failure
from samtrt.datasets.work import Outcome, Progress, State, Task, run_here
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.cli.options import Engines
    from samtrt.cli.places import Target
    from samtrt.datasets.given import Given
    from samtrt.datasets.output import DatasetOutput
    from samtrt.predictor import Predictor
    from samtrt.sources import Source


class DatasetWork(ABC):
    """A predictor with the files that its masks go to."""

    def __init__(self, predictor: Predictor, files: DatasetOutput, read: ImageReader) -> None:
        self.predictor, self.files, self.read = predictor, files, read

    @property
    def settings(self) -> dict[str, Any]:
        return self.files.settings

    def is_done(self, task: Task) -> bool:
        return self.files.is_done(task.source)

    def each(self, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
        """Segment and write one image after the other, while a thread reads the next."""
        from samtrt.encoding import in_order

        with closing(in_order(tasks, self.load, 1, ahead=1)) as ready:
            for task, future in ready:
                with tracing.span("samtrt.image", image=task.source.shown) as span:
                    try:
                        outcome = Outcome(State.DONE, self.segment(task, future.result(), part))
                    except Exception as error:
                        outcome = Outcome(State.FAILED, error=error)
                        tracing.note_failure(span, error)
                yield task, outcome

    def paths(self, source: Source) -> list[Path]:
        return self.files.paths(source)

    def load(self, task: Task) -> Given:
        """Read a picture or an embedding; raises `ImageError`."""
        from samtrt.datasets.given import Given
        from samtrt.embeddings import is_embedding_file, read_embedding

        path = task.source.path
        with tracing.span("samtrt.read", image=task.source.shown):
            if is_embedding_file(path):
                stored = read_embedding(path, self.predictor)
                return Given(stored.embedding, stored.sha256, stored.info.image_name)
            picture = self.read.picture(path)
            return Given(picture.pixels, picture.sha256)

    @abstractmethod
    def segment(self, task: Task, given: Given, progress: Progress) -> int:
        """Find and write one image's masks; return how many there are."""

    def close(self) -> None:
        self.predictor.close()


@dataclass(frozen=True)
class DatasetJob(ABC):
    """What a run does with each image, before its engines are open.

    Attributes:
        engines: What finds the masks.
        read: How images are read.
        files: Where results go; their settings are known when the engines are open.
    """

    engines: Engines
    read: ImageReader
    files: DatasetOutput
    command: ClassVar[str]
    """Which command's it is, for traces."""

    @property
    def output(self) -> Path:
        return self.files.directory

    def moved(self: J, output: Path) -> J:
        return replace(self, files=replace(self.files, directory=output))

    def open(self) -> DatasetWork:
        predictor = self.engines.load()
        try:
            self.read.open(predictor)
            return self.around(predictor)
        except BaseException:
            predictor.close()
            raise

    @abstractmethod
    def around(self, predictor: Predictor) -> DatasetWork:
        """Return the work that a predictor is opened for."""


J = TypeVar("J", bound=DatasetJob)


def settings_of(predictor: Predictor, read: ImageReader) -> dict[str, Any]:
    """Return what masks depend on beside image and prompts."""
    return {
        **predictor.identity,
        "decoder_precision": predictor.decoder.precision or predictor.manifest.precision.value,
        "mask_threshold": predictor.manifest.mask_threshold,
        **({"specks": predictor.specks} if predictor.specks else {}),
        **({"read_as": read.read_as} if read.read_as else {}),
    }


@dataclass
class Tally:
    """What became of the images of a run.

    Attributes:
        count: How many were done, failed, or had been done before.
        masks: How many masks were written.
        there: Images whose files are there.
        settings: What results depend on, where an image is there.
    """

    count: Counter[State] = field(default_factory=Counter)
    masks: int = 0
    there: list[Source] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Count another's too."""
        self.count += other.count
        self.masks += other.masks
        self.there += other.there
        self.settings = self.settings or other.settings


def run_over(
    job: DatasetJob,
    tasks: Sequence[Task],
    target: Target,
    ray: str | None,
    single: bool = False,
) -> int:
    """Do what is not done, and write the files about all images; return how many failed.

    Args:
        job: What to do. Of several devices, each gets a process and a share.
        tasks: All images of the run.
        target: Where results go.
        ray: Address of the cluster that does it; None for this machine.
        single: A single image's error is the command's own; in a folder it is reported and the
            run goes on.
    """
    from samtrt.files import counted

    device, begun, merged, tally = job.engines.device, time.monotonic(), None, Tally()
    tracing.start(job.command)
    try:
        with tracing.whole(f"samtrt {job.command}", images=len(tasks)):
            if ray is not None:
                _on_cluster(job, tasks, target.address, ray, tally, single)
            elif device is not None and "," in device:
                for share in on_each(partial(_share, job), device, tasks):
                    tally.add(share)
            else:
                _here(job, tasks, tally, single)
    finally:  # also when interrupted: what is done stays usable
        if tally.there:
            files = replace(job.files, settings=tally.settings)
            for source in tally.there:
                files.note_done(source)
            merged = target.merge(files, [task.source for task in tasks])
    seconds = time.monotonic() - begun
    count = tally.count
    found = f"{counted(count[State.DONE], 'image')}, {counted(tally.masks, 'mask')}"
    parts = [f"{found} in {seconds:.1f} s"]
    parts += [f"{count[State.BEFORE]} done before"] if count[State.BEFORE] else []
    parts += [f"{count[State.FAILED]} failed"] if count[State.FAILED] else []
    typer.echo("; ".join(parts))
    if merged:
        typer.echo(printable(merged))
    return count[State.FAILED]


def _on_cluster(
    job: DatasetJob, tasks: Sequence[Task], address: str, ray: str, tally: Tally, single: bool
) -> None:
    from samtrt.cluster.run import ClusterRun
    from samtrt.cluster.staging import staged

    run = ClusterRun(staged(job, tasks, address), tasks, ray)
    tally.settings = run.settings
    with Bar(len(tasks)) as bar:
        _count(run.outcomes(bar.print, bar.at), bar, tally, single)


def _here(
    job: DatasetJob, tasks: Sequence[Task], tally: Tally, single: bool, shows: bool = True
) -> None:
    with closing(job.open()) as work, Bar(len(tasks), shows) as bar:
        tally.settings = work.settings
        job.read.tell = bar.print
        _count(run_here(work, tasks, bar.part), bar, tally, single)


def _share(job: DatasetJob, device: str | None, tasks: Sequence[Task]) -> Tally:
    """Be the process of one of several devices, which leaves the end of the run to others."""
    tally = Tally()
    engines = replace(job.engines, device=device)
    _here(replace(job, engines=engines), tasks, tally, single=False, shows=False)
    return tally


def _count(outcomes: Iterator[tuple[Task, Outcome]], bar: Bar, tally: Tally, single: bool) -> None:
    for task, outcome in outcomes:
        if outcome.error is not None:
            if single:
                raise outcome.error
            bar.print(failure(task.source.told, outcome.error))
        else:
            tally.there.append(task.source)
        tally.count[outcome.state] += 1
        tally.masks += outcome.masks
        bar.next()


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
        self._shown = 0.0

    def part(self, done: int, total: int) -> None:
        """Show how far the current image is."""
        self.at(self._images + done / total)

    def at(self, images: float) -> None:
        """Show how many images are done, with parts of others."""
        self._shown = max(self._shown, images)  # from two sides, of which one may be behind
        self._bar.update(self._task, completed=self._shown)

    def next(self) -> None:
        """Show the current image as finished."""
        self._images += 1
        self.at(self._images)

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(f"samtrt: {printable(line)}", markup=False, soft_wrap=True)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
