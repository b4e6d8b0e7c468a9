"""Jobs of bench/cluster.py, for workers to import: one whose work is timed, one that sleeps."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from samtrt.choices import BackendName
from samtrt.cli.auto import AutoJob
from samtrt.cli.options import Engines
from samtrt.cli.reading import ImageReader
from samtrt.datasets.work import Outcome, Progress, State, Task, Work
from samtrt.sources import Source


@dataclass(frozen=True)
class TimedJob:
    """A job that notes the CPU time of its own work in a file for each process."""

    job: AutoJob
    notes: Path

    @property
    def engines(self) -> Engines:
        return self.job.engines

    @property
    def read(self) -> ImageReader:
        return self.job.read

    @property
    def output(self) -> Path:
        return self.job.output

    def moved(self, output: Path) -> TimedJob:
        return replace(self, job=self.job.moved(output))

    def open(self) -> TimedWork:
        return TimedWork(self.job.open(), self.notes / f"{os.getpid()}.json")


class TimedWork:
    """Work, timed; what comes before the first image is not counted as around it."""

    def __init__(self, work: Work, note: Path) -> None:
        self._work, self._note = work, note
        self._inside, self._begun = 0.0, time.process_time()
        self.settings = work.settings
        self.paths, self.close = work.paths, work.close

    def is_done(self, task: Task) -> bool:
        start = time.process_time()
        done = self._work.is_done(task)
        self._inside += time.process_time() - start
        return done

    def each(self, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
        start = time.process_time()
        for found in self._work.each(tasks, part):
            self._inside += time.process_time() - start
            self._write()
            yield found
            start = time.process_time()
        self._inside += time.process_time() - start
        self._write()

    def _write(self) -> None:
        total = time.process_time() - self._begun
        times = {"inside": self._inside, "around": total - self._inside}
        self._note.write_text(json.dumps(times))


SLEEP_SECONDS = 0.5
"""An image."""


@dataclass(frozen=True)
class SleepingJob:
    """A job that takes time and no processor; of a model directory that is not opened."""

    directory: Path

    @property
    def engines(self) -> Engines:
        return Engines(self.directory, BackendName.ONNXRUNTIME, None, 1, None)

    @property
    def read(self) -> ImageReader:
        return ImageReader(None, "white")

    @property
    def output(self) -> Path:
        return self.directory

    def moved(self, output: Path) -> SleepingJob:
        return SleepingJob(output)

    def open(self) -> SleepingWork:
        return SleepingWork()


class SleepingWork:
    """Sleeps."""

    settings: ClassVar[dict[str, Any]] = {"sleeps": SLEEP_SECONDS}

    def is_done(self, task: Task) -> bool:
        return task.source.path.exists()

    def each(self, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            time.sleep(SLEEP_SECONDS)
            part(1, 1)
            yield task, Outcome(State.DONE)

    def paths(self, source: Source) -> list[Path]:
        return [source.path]

    def close(self) -> None:
        """Nothing is open."""
