"""A run over many images: what is done with each of them, and what became of it.

A `Job` says what to do. Wherever that is done, in this process or in workers on other machines, it
is opened there and becomes `Work`. What is done for an image depends on nothing but the image and
the job, so that it does not matter who does it, nor how often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from samtrt.sources import Source

Progress = Callable[[int, int], None]
"""Called with the parts of an image done and the parts in all."""


@dataclass(frozen=True)
class Task:
    """One image of a run.

    Attributes:
        source: The image, or an embedding of one.
        about: What its result depends on beside image and job, such as its boxes.
    """

    source: Source
    about: Any = None


class State(str, Enum):
    """What became of an image."""

    DONE = "done"
    BEFORE = "before"  # it was done already, as the job would do it
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Attributes:
        state: Whether it is done.
        masks: How many masks were written for it.
        error: Why it failed.
    """

    state: State
    masks: int = 0
    error: Exception | None = None


class Reader(Protocol):
    """Reads images."""

    tell: Callable[[str], None]
    """Takes a line about what was assumed of an image; called from any thread."""


class Work(Protocol):
    """Engines that are open, and what they are opened for."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that results depend on beside image and task, as JSON values."""

    def is_done(self, task: Task) -> bool:
        """Tell whether the files of an image are there as they would be written."""

    def each(self, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
        """Do one image after the other; yield them in their order."""

    def paths(self, source: Source) -> list[Path]:
        """Return where the files of an image go, last the one that marks it as done."""

    def close(self) -> None:
        """Free the engines."""


class Needs(Protocol):
    """Which engines are opened."""

    @property
    def directory(self) -> Path:
        """The model directory."""

    @property
    def threads(self) -> int:
        """Cores that they use; 0 for all."""

    @property
    def on_gpu(self) -> bool:
        """Whether they use a GPU."""


class Job(Protocol):
    """What to do with each image. It can be pickled, and holds no engine."""

    @property
    def engines(self) -> Needs:
        """What does it."""

    @property
    def read(self) -> Reader:
        """How images are read."""

    @property
    def output(self) -> Path:
        """The directory that files go to."""

    def moved(self, output: Path) -> Job:
        """Return the same job with another directory to write to."""

    def open(self) -> Work:
        """Open the engines.

        Raises:
            SamtrtError: where they cannot run here.
        """


def run_here(work: Work, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
    """Do what is not done; yield every image with what became of it, first those done before."""
    waiting = []
    for task in tasks:
        if work.is_done(task):
            yield task, Outcome(State.BEFORE)
        else:
            waiting.append(task)
    yield from work.each(waiting, part)
