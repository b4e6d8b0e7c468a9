"""A run whose images or results are at addresses: each image passes through a folder of the worker.

Any job runs so, since it works on files. Images are brought there ahead of the work, and results
are sent away behind it, the file that marks an image as done last.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from samtrt import tracing
from samtrt.cluster.places import Place
from samtrt.datasets.work import Job, Needs, Outcome, Progress, Reader, State, Task
from samtrt.errors import ImageError, SamtrtError
from samtrt.sources import Source
from samtrt.unfinished import new_directory

TRANSFERS = 16
"""At once, of one worker: a store takes tens of milliseconds for each."""
CHUNK = 32
"""Images that are brought before others are done."""
UNSENT = 32
"""Images whose results may be on their way."""


def staged(job: Job, tasks: Sequence[Task], address: str) -> Job:
    """Return what does a job where results go to an address, or images come from one.

    Args:
        job: The job.
        tasks: All images.
        address: Where results go; empty for the job's own folder.
    """
    if address or any(task.source.place for task in tasks):
        return StagedJob(job, address)
    return job


@dataclass(frozen=True)
class StagedJob:
    """A job whose files go to an address, empty where they stay, and whose images may be at one."""

    job: Job
    address: str

    @property
    def engines(self) -> Needs:
        return self.job.engines

    @property
    def read(self) -> Reader:
        return self.job.read

    @property
    def output(self) -> Path:
        return self.job.output

    def moved(self, output: Path) -> StagedJob:
        return replace(self, job=self.job.moved(output))

    def open(self) -> StagedWork:
        return StagedWork(self.job, self.address)


class StagedWork:
    """Work in a folder of its own, which is removed at its end or, of a killed process, by the next
    one."""

    def __init__(self, job: Job, address: str) -> None:
        """Open the engines, and the place of results; raises as both do."""
        self._results = Place(address) if address else None
        self._places: dict[str, tuple[Place, Path]] = {}
        self._opening = Lock()
        tell = job.read.tell
        with ExitStack() as stack:
            self._folder = stack.enter_context(new_directory(Path(tempfile.gettempdir())))
            job.read.tell = lambda line: tell(self._told(line))
            self._out = self._folder / "out"
            self._work = (job.moved(self._out) if address else job).open()
            stack.callback(self._work.close)
            self._stack = stack.pop_all()

    @property
    def settings(self) -> dict[str, Any]:
        return self._work.settings

    def is_done(self, task: Task) -> bool:
        *others, marker = self._work.paths(task.source)
        try:
            if not self._is_here(marker):
                return False
            for path in others:
                self._is_here(path)
            here = self._brought(task)
        except SamtrtError:  # what is wrong is told when the image is to be done
            return False
        try:
            done = self._work.is_done(here)
        finally:
            self._drop(task, here)
        if done:
            self._drop_results(task.source)  # else they show whether others changed them
        return done

    def each(self, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
        """Do one image after the other; yield them in their order, when their results are sent."""
        sent: deque[tuple[Task, Future[Outcome]]] = deque()
        with ThreadPoolExecutor(TRANSFERS, "transfer") as pool:

            def bring(start: int) -> list[tuple[Task, Future[Task]]]:
                chunk = tasks[start : start + CHUNK]
                return [(task, pool.submit(self._brought, task)) for task in chunk]

            ahead = bring(0)
            for start in range(0, len(tasks), CHUNK):
                chunk, ahead = ahead, bring(start + CHUNK)
                for task, outcome in self._chunk(chunk, part):
                    sent.append((task, pool.submit(self._send, *outcome)))
                    while sent and (len(sent) > UNSENT or sent[0][1].done()):
                        done, future = sent.popleft()
                        yield done, future.result()
            for done, future in sent:
                yield done, future.result()

    def _chunk(
        self, chunk: list[tuple[Task, Future[Task]]], part: Progress
    ) -> Iterator[tuple[Task, tuple[Task, Task, Outcome]]]:
        """Do images whose files are coming; yield each with what `_send` takes."""
        brought = [(task, _result(future)) for task, future in chunk]
        here = [one for _, one in brought if isinstance(one, Task)]
        with closing(iter(self._work.each(here, part))) as outcomes:  # type: ignore[type-var]
            for task, one in brought:
                if isinstance(one, Task):
                    yield task, (task, one, next(outcomes)[1])
                else:
                    yield task, (task, task, Outcome(State.FAILED, error=one))

    def _send(self, task: Task, here: Task, outcome: Outcome) -> Outcome:
        """Send an image's results; return what became of it."""
        try:
            if outcome.state is State.DONE and self._results is not None:
                with tracing.span("samtrt.send", image=task.source.shown):
                    for path in self._work.paths(task.source):
                        if path.is_file():
                            self._results.send(path, self._name(path))
        except SamtrtError as error:
            outcome = Outcome(State.FAILED, error=error)
        finally:
            self._drop(task, here)
            self._drop_results(task.source)
        if outcome.error is None:
            return outcome
        why = outcome.error
        line = str(why) if isinstance(why, SamtrtError) else f"{type(why).__name__}: {why}"
        return replace(outcome, error=SamtrtError(self._told(line)))

    def _brought(self, task: Task) -> Task:
        """Return a task whose image is here.

        Raises:
            SamtrtError: where it cannot be had.
        """
        source = task.source
        if not source.place:
            return task
        place, folder = self._place(source.place)
        path = folder / source.path
        with tracing.span("samtrt.fetch", image=source.shown):
            if not place.fetch(source.path.as_posix(), path):
                raise ImageError(f"{source.told} is not there any more")
        return replace(task, source=replace(source, path=path))

    def _place(self, address: str) -> tuple[Place, Path]:
        """Return a place of images, and the folder that they come to."""
        with self._opening:
            if address not in self._places:
                folder = self._folder / f"in-{len(self._places)}"
                self._places[address] = Place(address), folder
            return self._places[address]

    def _is_here(self, path: Path) -> bool:
        """Tell whether there is a file of results, and bring it here."""
        return (
            path.is_file() if self._results is None else self._results.fetch(self._name(path), path)
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()

    def _drop(self, task: Task, here: Task) -> None:
        if here.source.path != task.source.path:
            here.source.path.unlink(missing_ok=True)

    def _drop_results(self, source: Source) -> None:
        if self._results is not None:
            for path in self._work.paths(source):
                path.unlink(missing_ok=True)

    def _told(self, line: str) -> str:
        """Return what was said of files here as of where they belong."""
        if self._results is not None:
            line = line.replace(f"{self._out}/", f"{self._results.address}/")
        for place, folder in list(self._places.values()):
            line = line.replace(f"{folder}/", f"{place.address}/")
        return line

    def paths(self, source: Source) -> list[Path]:
        return self._work.paths(source)

    def close(self) -> None:
        self._stack.close()


def _result(future: Future[Task]) -> Task | SamtrtError:
    try:
        return future.result()
    except SamtrtError as error:
        return error
