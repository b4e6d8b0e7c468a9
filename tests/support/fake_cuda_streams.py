"""Streams, events and graphs of the stand-in for CUDA; see `fake_cuda`."""

# ruff: noqa: N802, N815
from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cuda.bindings
import pytest
from cuda.bindings import runtime as real

from support.fake_cuda import KERNEL_MS, OK, Event, Status, Stream
from support.fake_cuda_memory import CudaMemory

Work = Callable[[], None]


@dataclass
class Graph:
    work: list[tuple[str, Work]]
    device: int


@dataclass
class GraphExec(Graph):
    pass


class Cuda(CudaMemory):
    """The whole stand-in."""

    def __init__(self, *arguments: Any, **words: Any) -> None:
        super().__init__(*arguments, **words)
        self.priorities: dict[int, int] = {}

    def cudaStreamCreate(self) -> tuple[Status, int | None]:
        with self._lock:
            if failed := self._enter("cudaStreamCreate"):
                return failed, None
            return OK, self._new(Stream(self.device))

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[Status, int | None]:
        del flags
        status, handle = self.cudaStreamCreate()
        if handle is not None:
            self.priorities[handle] = priority
        return status, handle

    def cudaStreamDestroy(self, stream: Any) -> tuple[Status]:
        with self._lock:
            found = self._get(stream, Stream)
            if found is not None:
                self._drain(found)
            return self._drop("cudaStreamDestroy", stream, Stream)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Status]:
        with self._lock:
            if failed := self._enter("cudaStreamSynchronize"):
                return (failed,)
            found = self._get(stream, Stream)
            if found is None:
                return (Status.cudaErrorInvalidResourceHandle,)
            if found.capture is not None:
                found.broken = True
                self.faults.append("waiting for a stream that is capturing")
                return (Status.cudaErrorStreamCaptureUnsupported,)
            self._drain(found)
            return (OK,)

    def cudaDeviceSynchronize(self) -> tuple[Status]:
        with self._lock:
            if failed := self._enter("cudaDeviceSynchronize", breaks_capture=True):
                return (failed,)
            for stream in self._streams():
                self._drain(stream)
            return (OK,)

    def enqueue(self, stream: Stream, name: str, work: Work) -> None:
        """Put work on a stream, or into the graph that it captures."""
        if stream.capture is not None:
            stream.capture.append((name, work))
        else:
            stream.queue.append((name, work))

    def pending(self, stream: Stream) -> bool:
        """Tell whether work waits on a stream."""
        return bool(stream.queue)

    def stream(self, handle: Any) -> Stream | None:
        """Return the stream behind a handle."""
        found: Stream | None = self._get(handle, Stream)
        return found

    def _drain(self, stream: Stream) -> None:
        while stream.queue:
            _, work = stream.queue.popleft()
            work()
            self._clock += KERNEL_MS

    # Events

    def cudaEventCreate(self) -> tuple[Status, int | None]:
        with self._lock:
            if failed := self._enter("cudaEventCreate"):
                return failed, None
            return OK, self._new(Event())

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Status, int | None]:
        del flags
        return self.cudaEventCreate()

    def cudaEventDestroy(self, event: Any) -> tuple[Status]:
        return self._drop("cudaEventDestroy", event, Event)

    def cudaEventRecord(self, event: Any, stream: Any) -> tuple[Status]:
        with self._lock:
            if failed := self._enter("cudaEventRecord"):
                return (failed,)
            mark, on = self._get(event, Event), self._get(stream, Stream)
            if mark is None or on is None:
                return (Status.cudaErrorInvalidResourceHandle,)

            def record() -> None:
                mark.pending -= 1
                mark.at = self._clock

            mark.stream = on
            mark.pending += 1
            self.enqueue(on, "event", record)
            return (OK,)

    def cudaStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> tuple[Status]:
        del flags
        with self._lock:
            mark, on = self._get(event, Event), self._get(stream, Stream)
            if mark is None or on is None:
                return (Status.cudaErrorInvalidResourceHandle,)
            self.enqueue(on, "wait", lambda: self._wait(mark))
            return (OK,)

    def cudaEventSynchronize(self, event: Any) -> tuple[Status]:
        with self._lock:
            mark = self._get(event, Event)
            if mark is None:
                return (Status.cudaErrorInvalidResourceHandle,)
            self._wait(mark)
            return (OK,)

    def cudaEventQuery(self, event: Any) -> tuple[Status]:
        with self._lock:
            mark = self._get(event, Event)
            return (Status.cudaErrorNotReady if mark is None or mark.pending else OK,)

    def _wait(self, mark: Event) -> None:
        while mark.pending and mark.stream is not None and mark.stream.queue:
            _, work = mark.stream.queue.popleft()
            work()
            self._clock += KERNEL_MS

    def cudaEventElapsedTime(self, start: Any, end: Any) -> tuple[Status, float]:
        with self._lock:
            first, last = self._get(start, Event), self._get(end, Event)
            if first is None or last is None or first.stream is None or last.stream is None:
                return Status.cudaErrorInvalidResourceHandle, 0.0
            if first.pending or last.pending:
                return Status.cudaErrorNotReady, 0.0
            return OK, last.at - first.at

    # Graphs

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[Status]:
        with self._lock:
            if failed := self._enter("cudaStreamBeginCapture"):
                return (failed,)
            on = self._get(stream, Stream)
            if on is None:
                return (Status.cudaErrorInvalidResourceHandle,)
            on.capture, on.broken = [], False
            on.capture_thread, on.capture_mode = threading.get_ident(), int(mode)
            return (OK,)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Status, int | None]:
        with self._lock:
            failed = self._enter("cudaStreamEndCapture")
            on = self._get(stream, Stream)
            if on is None or on.capture is None:
                return Status.cudaErrorIllegalState, None
            work, on.capture = on.capture, None
            if failed or on.broken:
                return failed or Status.cudaErrorStreamCaptureInvalidated, None
            return OK, self._new(Graph(work, on.device))

    def cudaStreamIsCapturing(self, stream: Any) -> tuple[Status, Any]:
        on = self._get(stream, Stream)
        state = real.cudaStreamCaptureStatus
        if on is None or on.capture is None:
            return OK, state.cudaStreamCaptureStatusNone
        return OK, state.cudaStreamCaptureStatusActive

    def cudaGraphInstantiate(self, graph: Any, flags: int = 0) -> tuple[Status, int | None]:
        del flags
        with self._lock:
            if failed := self._enter("cudaGraphInstantiate"):
                return failed, None
            found = self._get(graph, Graph)
            return OK, self._new(GraphExec(list(found.work), found.device))

    cudaGraphInstantiateWithFlags = cudaGraphInstantiate

    def cudaGraphUpload(self, graph: Any, stream: Any) -> tuple[Status]:
        del graph, stream
        return (OK,)

    def cudaGraphLaunch(self, graph: Any, stream: Any) -> tuple[Status]:
        with self._lock:
            if failed := self._enter("cudaGraphLaunch"):
                return (failed,)
            found, on = self._get(graph, GraphExec), self._get(stream, Stream)
            if found is None or on is None or found.device != on.device:
                return (Status.cudaErrorInvalidValue,)
            for name, work in found.work:
                self.enqueue(on, name, work)
            return (OK,)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Status]:
        return self._drop("cudaGraphDestroy", graph, Graph)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[Status]:
        return self._drop("cudaGraphExecDestroy", graph, GraphExec)


def install(patch: pytest.MonkeyPatch, **settings: int) -> Cuda:
    """Put a new stand-in where `from cuda.bindings import runtime` finds it."""
    fake = Cuda(**settings)
    patch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    patch.setattr(cuda.bindings, "runtime", fake)
    return fake
