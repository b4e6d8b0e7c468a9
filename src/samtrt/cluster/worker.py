"""One actor of a run: it opens the engines once, and then does blocks of images."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from samtrt import tracing
from samtrt._version import __version__
from samtrt.cluster.ledger import Begun
from samtrt.cluster.messages import Told
from samtrt.cluster.staging import TRANSFERS, StagedWork
from samtrt.datasets.work import Job, Outcome, State, Task, Work
from samtrt.errors import MissingExtraError, SamtrtError

try:
    import ray
except ImportError:
    raise MissingExtraError("--ray", "ray", "ray") from None

BLOCK, TASKS, SAID = "block", "tasks", "said"
"""Columns of a row, which is a block: its number and its pickled `Numbered`; and its `Told`."""

FLUSH_SECONDS = 1.0
"""Between two messages about images of a block that ended."""

Numbered = list[tuple[int, Task]]


def here() -> str:
    """Name this node."""
    return f"node {ray.util.get_node_ip_address()}"


def check(version: str, packed: bytes, directory: Path) -> str | None:
    """Return why this node cannot do a job, as far as that can be told without opening engines."""
    from samtrt.manifest import Manifest

    if version != __version__:
        return f"{here()} has samtrt {__version__} and this command is {version}: install one"
    try:
        pickle.loads(packed)
        Manifest.load(directory)
    except SamtrtError as error:
        return f"{here()}: {error}"
    except Exception as error:  # what a job holds that this node has not
        return f"{here()} cannot read the job ({type(error).__name__}: {error}): install the same"
    return None


class Worker:
    """Engines, and the images that are done with them."""

    def __init__(self, version: str, packed: bytes, ledger: Any, trace: Mapping[str, str]) -> None:
        """Open the engines. Why they cannot be opened is told in place of results.

        Args:
            version: Of the command's samtrt.
            packed: The job, pickled.
            ledger: The run's.
            trace: The command's `tracing.carried`.
        """
        self._ledger = ledger
        self._notes: list[str] = []
        self._unsaid: dict[int, int] = {}
        self._flushed = 0.0
        self._refused = ""
        try:
            tracing.take_part("worker", trace)
            self._work = self._open(version, packed)
        except Exception as error:
            line = _line(error)
            self._refused = line if line.startswith("node ") else f"{here()}: {line}"

    def _open(self, version: str, packed: bytes) -> Work:
        if version != __version__:
            raise SamtrtError(f"samtrt is {__version__} here and {version} in the command")
        worker = ray.get_runtime_context().get_actor_id()
        _refuse(ray.get(self._ledger.opening.remote(worker, here())))
        job: Job = pickle.loads(packed)
        job.read.tell = self._notes.append
        work = job.open()
        _refuse(ray.get(self._ledger.opened.remote(worker, here(), work.settings)))
        return work

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[Any]]:
        """Do blocks; return a row for each."""
        said = [
            pickle.dumps(
                self._refused
                or list(self._block(int(block), pickle.loads(tasks)))  # what our own process sent
            )
            for block, tasks in zip(rows[BLOCK], rows[TASKS], strict=True)
        ]
        tracing.flush()  # Ray ends workers without a word
        return {BLOCK: list(rows[BLOCK]), SAID: said}

    def _block(self, block: int, tasks: Numbered) -> Iterator[Told]:
        done = self._done(tasks)
        begun: Begun = ray.get(self._ledger.begin.remote(block, done))
        waiting = []
        for number, task in tasks:
            if number in begun.given_up:
                told = Told(number, State.FAILED, error=_ENDS_PROCESSES)
            elif number in begun.before:
                told = Told(number, State.BEFORE)
            elif number in done:  # by an earlier worker of this block, which then died
                told = Told(number, State.DONE, begun.masks.get(number, 0))
            else:
                waiting.append((number, task))
                continue
            self._ended(told)
            yield told
        if begun.attempt:
            yield from self._one_by_one(block, waiting)
        else:
            yield from self._each(block, waiting)
        self._flush(block)

    def _done(self, tasks: Numbered) -> list[int]:
        """Return the numbers of images that are done; a store is asked about many at once."""
        if not isinstance(self._work, StagedWork):
            return [number for number, task in tasks if self._work.is_done(task)]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            found = list(pool.map(self._work.is_done, [task for _, task in tasks]))
        return [number for (number, _), done in zip(tasks, found, strict=True) if done]

    def _each(self, block: int, tasks: Numbered) -> Iterator[Told]:
        numbers = [number for number, _ in tasks]
        outcomes = self._work.each([task for _, task in tasks], lambda *_: None)
        for number, (_, outcome) in zip(numbers, outcomes, strict=True):
            told = self._told(number, outcome)
            self._ended(told)
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush(block)
            yield told

    def _one_by_one(self, block: int, tasks: Numbered) -> Iterator[Told]:
        """Do images of a block whose worker died, so that it is known which one ends processes."""
        for number, task in tasks:
            ray.get(self._ledger.image.remote(block, number))
            yield from self._each(block, [(number, task)])
            self._flush(block)

    def _ended(self, told: Told) -> None:
        self._unsaid[told.task] = told.masks

    def _flush(self, block: int) -> None:
        """Tell the ledger what ended since the last time: a call an image would be its limit."""
        if self._unsaid:
            self._ledger.ended.remote(block, self._unsaid)
        self._unsaid, self._flushed = {}, time.monotonic()

    def _told(self, number: int, outcome: Outcome) -> Told:
        notes, self._notes[:] = list(self._notes), []
        return Told(number, outcome.state, outcome.masks, _line(outcome.error), notes)


_ENDS_PROCESSES = "the process that worked on it died each time: its memory ran out, or it crashed"


def _refuse(reason: str | None) -> None:
    if reason:
        raise SamtrtError(reason)


def _line(error: Exception | None) -> str:
    if error is None:
        return ""
    return str(error) if isinstance(error, SamtrtError) else f"{type(error).__name__}: {error}"


def split(tasks: Sequence[tuple[int, Task]], size: int) -> list[Numbered]:
    """Cut tasks into blocks."""
    return [list(tasks[start : start + size]) for start in range(0, len(tasks), size)]
