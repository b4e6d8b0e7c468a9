"""What a call takes a GPU, by its own clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samtrt.cuda.runtime import THREAD_STREAM, Cuda


class StreamClock:
    """Times what a call queues in this thread's stream of a GPU."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        cuda.use()
        self._events = [cuda.create_event() for _ in range(2)]

    def __call__(self, call: Callable[[], Any]) -> tuple[Any, float]:
        self._cuda.record(self._events[0], THREAD_STREAM)
        result = call()
        self._cuda.record(self._events[1], THREAD_STREAM)
        self._cuda.synchronize(THREAD_STREAM)
        return result, self._cuda.elapsed_ms(*self._events)

    def __enter__(self) -> StreamClock:
        return self

    def __exit__(self, *_: object) -> None:
        for event in self._events:
            self._cuda.destroy_event(event)
