"""Bounded admission, and a queue whose workers run compatible jobs together."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics

Job = TypeVar("Job")
Result = TypeVar("Result")


class Admission:
    """A number of slots. Work that finds too few is refused at once: nobody queues unseen."""

    def __init__(self, what: str, slots: int, metrics: Metrics) -> None:
        self._what = what
        self._slots = slots
        self._used = 0
        self._lock = threading.Lock()
        self._metrics = metrics
        self._seconds = 1.0  # how long a slot was lately held, smoothed

    def check(self) -> None:
        """Refuse, as `admit` does, without holding anything: before a body is read."""
        with self._lock:
            if self._used >= self._slots:
                raise self._busy()

    @contextmanager
    def admit(self, weight: int = 1) -> Iterator[None]:
        """Hold `weight` slots for the block.

        Raises:
            ApiError: 429 where they are not free, with the seconds after which to try again.
        """
        with self._lock:
            # A request heavier than all slots runs alone rather than never.
            if self._used and self._used + weight > self._slots:
                raise self._busy()
            self._change(weight)
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._seconds += 0.1 * (time.monotonic() - start - self._seconds)
                self._change(-weight)

    def _busy(self) -> ApiError:
        self._metrics.rejected.labels(self._what).inc()
        return ApiError(
            429,
            f"the server is busy with {self._used} {self._what}: try again later",
            "busy",
            retry_after=min(30, max(1, math.ceil(self._seconds))),
        )

    def _change(self, weight: int) -> None:
        self._used += weight
        self._metrics.in_use.labels(self._what).set(self._used)


@dataclass(eq=False)
class _Entry(Generic[Job, Result]):
    job: Job
    key: Hashable
    weight: int
    future: Future[Result]


class BatchQueue(Generic[Job, Result]):
    """Threads that run jobs; jobs that wait and share a key go into one call.

    Nothing is held back to wait for company: batches form from what piled up while the workers
    were busy, so an idle server answers at once and a loaded one batches.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], Sequence[Result]],
        max_batch: int,
        workers: int,
        name: str,
    ) -> None:
        self._run = run
        self._max = max_batch
        self._waiting: deque[_Entry[Job, Result]] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, key: Hashable = None, weight: int = 1) -> Future[Result]:
        """Queue a job. Cancelling the future before it runs takes the job out."""
        future: Future[Result] = Future()
        with self._condition:
            if self._closed:
                raise ApiError(503, "the server is shutting down", "shutting_down", retry_after=5)
            self._waiting.append(_Entry(job, key, weight, future))
            self._condition.notify()
        return future

    def close(self, seconds: float) -> bool:
        """Finish what was queued, for `seconds`, and drop the rest; False where work goes on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._condition:
            for entry in self._waiting:
                entry.future.cancel()
            self._waiting.clear()
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while batch := self._take():
            entries = [entry for entry in batch if entry.future.set_running_or_notify_cancel()]
            if entries:
                self._finish(entries)

    def _take(self) -> list[_Entry[Job, Result]]:
        """Wait for a job; return it with those that can run with it. Empty when closed."""
        with self._condition:
            while not self._waiting:
                if self._closed:
                    return []
                self._condition.wait()
            batch = [self._waiting.popleft()]
            room = self._max - batch[0].weight
            for entry in list(self._waiting) if room > 0 else ():
                if entry.key == batch[0].key and entry.weight <= room:
                    self._waiting.remove(entry)
                    batch.append(entry)
                    room -= entry.weight
            return batch

    def _finish(self, entries: list[_Entry[Job, Result]]) -> None:
        try:
            results = self._run([entry.job for entry in entries])
        except Exception as error:
            if len(entries) == 1:
                entries[0].future.set_exception(error)
                return
            for entry in entries:  # so that only the one at fault fails
                self._finish([entry])
            return
        for entry, result in zip(entries, results, strict=True):
            entry.future.set_result(result)
