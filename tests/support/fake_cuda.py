"""A stand-in for the CUDA runtime that is as lazy as CUDA may be, and keeps account.

It stands in for `cuda.bindings.runtime`: the functions that samtrt calls, with the results of the
real bindings (a status, then values); enumerations and constants are the real ones, and a function
that is not here is an AttributeError. Device memory is NumPy bytes behind made-up addresses. Work
that is put on a stream waits there until something waits for it, so that a missing
synchronisation, or host memory that is used again too early, gives wrong numbers every time.

What a real GPU would answer with silence, a crash or another process's memory is noted in `faults`:
memory freed twice or used after it was freed, reads past an allocation, work on another device than
its memory's, calls that break a capture. `live()` counts what has not been freed. Fresh memory is
full of NaN.
"""

# ruff: noqa: N802
from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from cuda.bindings import runtime as real

Status = real.cudaError_t
OK = Status.cudaSuccess
THREAD_STREAM = int(real.cudaStreamPerThread)
DEVICE_BASE = 0x7000_0000_0000
KERNEL_MS = 0.5
"""What every piece of work takes on this GPU's clock."""


@dataclass
class Block:
    """One allocation; `address` is the host's own for pinned memory."""

    address: int
    data: np.ndarray
    device: int | None  # None: pinned host memory
    freed: bool = False


@dataclass
class Stream:
    device: int
    queue: deque[tuple[str, Callable[[], None]]] = field(default_factory=deque)
    capture: list[tuple[str, Callable[[], None]]] | None = None
    capture_thread: int = 0
    capture_mode: int = 0
    broken: bool = False


@dataclass
class Event:
    stream: Stream | None = None
    pending: int = 0
    at: float = 0.0


class FakeCuda:
    """The module; `install` puts it in the place of the real one."""

    def __init__(
        self, memory: int = 1 << 34, devices: int = 1, real_addresses: bool = False
    ) -> None:
        """With `real_addresses`, what knows nothing of this stand-in can use its memory."""
        self.memory, self.devices, self.real_addresses = memory, devices, real_addresses
        self.faults: list[str] = []
        self.calls: Counter[str] = Counter()
        self.failing: dict[str, list[int]] = {}
        self.broken_down = 0  # what every call answers from now on
        self.peak = 0
        self.copied_to_host = 0
        """Bytes that streams copied from devices."""
        self._lock = threading.RLock()
        self._local = threading.local()
        self._blocks: dict[int, Block] = {}
        self._of_threads: dict[tuple[int, int], Stream] = {}  # and GPUs: their own streams
        self._graveyard: list[Block] = []  # so that addresses are never used twice
        self._handles: dict[int, Any] = {}
        self._next = itertools.count(1)
        self._address = DEVICE_BASE
        self._clock = 0.0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cuda") and not callable(getattr(real, name, None)):
            return getattr(real, name)  # constants
        found = getattr(real, name)
        if isinstance(found, type):  # enumerations and handles
            return found
        raise AttributeError(f"{name} is not part of this stand-in")

    def fail(self, name: str, status: int, after: int = 0) -> None:
        """Let a function fail once, after so many calls that succeed."""
        self.failing[name] = [after, status]

    def live(self) -> Counter[str]:
        """Count what is not freed yet."""
        kinds = [type(handle).__name__.lower() for handle in self._handles.values()]
        memory = ["pinned" if b.device is None else "device" for b in self._blocks.values()]
        return Counter(kinds + memory)

    @property
    def used(self) -> int:
        """Return the bytes of device memory that are taken."""
        return sum(len(b.data) for b in self._blocks.values() if b.device is not None)

    def forget(self) -> None:
        """Be as new: what the driver does where a process ends."""
        self.broken_down = 0
        self._graveyard += self._blocks.values()
        self._blocks.clear()
        self._handles.clear()

    def _enter(self, name: str, breaks_capture: bool = False) -> Status | None:
        self.calls[name] += 1
        if self.broken_down:
            return Status(self.broken_down)
        if name in self.failing:
            self.failing[name][0] -= 1
            if self.failing[name][0] < 0:
                return Status(self.failing.pop(name)[1])
        if breaks_capture:
            return self._check_captures(name)
        return None

    def _check_captures(self, name: str) -> Status | None:
        """Unsafe calls break captures: of any thread in the global mode, of its own in another."""
        relaxed = real.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        everyone = real.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal
        for stream in self._streams():
            own = stream.capture_thread == threading.get_ident()
            if stream.capture is None or stream.capture_mode == int(relaxed):
                continue
            if own or stream.capture_mode == int(everyone):
                stream.broken = True
                self.faults.append(f"{name} while a stream is capturing")
                return Status.cudaErrorStreamCaptureUnsupported
        return None

    def _streams(self) -> list[Stream]:
        made = [handle for handle in self._handles.values() if isinstance(handle, Stream)]
        return [*made, *self._of_threads.values()]

    def _new(self, handle: Any) -> int:
        number = next(self._next) * 16
        self._handles[number] = handle
        return number

    def _get(self, handle: Any, kind: type) -> Any:
        if kind is Stream and int(handle) == THREAD_STREAM:
            key = threading.get_ident(), self.device
            return self._of_threads.setdefault(key, Stream(self.device))
        found = self._handles.get(int(handle))
        if not isinstance(found, kind):
            self.faults.append(f"{kind.__name__} {int(handle)} does not exist (any more)")
            return None
        return found

    def _drop(self, name: str, handle: Any, kind: type) -> tuple[Status]:
        with self._lock:
            if failed := self._enter(name):
                return (failed,)
            if self._get(handle, kind) is None:
                return (Status.cudaErrorInvalidResourceHandle,)
            del self._handles[int(handle)]
            return (OK,)

    # Devices

    def cudaGetDeviceCount(self) -> tuple[Status, int]:
        return self._enter("cudaGetDeviceCount") or OK, self.devices

    def cudaGetDeviceProperties(self, device: int) -> tuple[Status, Any]:
        found = SimpleNamespace(name=b"Fake GPU\0", major=9, minor=0, totalGlobalMem=self.memory)
        return self._enter("cudaGetDeviceProperties") or OK, found if device < self.devices else 0

    def cudaDriverGetVersion(self) -> tuple[Status, int]:
        return OK, 13000

    def cudaRuntimeGetVersion(self) -> tuple[Status, int]:
        return OK, 13000

    def cudaSetDevice(self, device: int) -> tuple[Status]:
        if failed := self._enter("cudaSetDevice"):
            return (failed,)
        if not 0 <= device < self.devices:
            return (Status.cudaErrorInvalidDevice,)
        self._local.device = device
        return (OK,)

    def cudaGetDevice(self) -> tuple[Status, int]:
        return OK, self.device

    @property
    def device(self) -> int:
        """Return the calling thread's device."""
        return getattr(self._local, "device", 0)

    def cudaMemGetInfo(self) -> tuple[Status, int, int]:
        return self._enter("cudaMemGetInfo") or OK, self.memory - self.used, self.memory

    def cudaGetLastError(self) -> tuple[Status]:
        return (OK,)

    def cudaGetErrorName(self, status: Any) -> tuple[Status, bytes]:
        return OK, Status(int(status)).name.encode()

    def cudaGetErrorString(self, status: Any) -> tuple[Status, bytes]:
        return OK, Status(int(status)).name.encode()
