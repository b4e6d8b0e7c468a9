"""The few calls of the CUDA runtime that running an engine takes, each checked; no PyTorch."""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.errors import BackendError, MissingExtraError
from samtrt.types import DeviceArray

OUT_OF_MEMORY = 2
_MISSING_DRIVER = {
    35: "there is no NVIDIA driver, or it is older than this CUDA needs",
    100: "there is no GPU that CUDA can see",
}


class Cuda:
    """One GPU through the CUDA runtime. Pointers and streams are plain integers.

    CUDA has a current device in each thread: `use` sets it, and every thread calls it first.
    """

    def __init__(self, index: int = 0, runtime: Any = None) -> None:
        self.index = index
        self.runtime = runtime or import_runtime()

    def use(self) -> None:
        self._call("cudaSetDevice", self.index)

    def allocate(self, size: int) -> int:
        """Return `size` bytes of the GPU's memory.

        Raises:
            BackendError: where there is not enough; the message says how much is left.
        """
        status, pointer = self.runtime.cudaMalloc(size)
        if int(status) == OUT_OF_MEMORY:
            self.runtime.cudaGetLastError()  # it would answer the next call too
            free, total = self.memory()
            raise BackendError(
                f"the GPU is out of memory: {_megabytes(size)} more are needed, "
                f"{_megabytes(free)} of {_megabytes(total)} are free; close other programs on it, "
                "or build engines for fewer prompts: samtrt build --prompts 1:1:16"
            )
        self._raise(status, "cudaMalloc")
        return int(pointer)

    def free(self, pointer: int) -> None:
        self._release("cudaFree", pointer)

    def allocate_pinned(self, size: int) -> int:
        """Return `size` bytes of host memory that copies to and from the GPU go fastest with."""
        return int(self._call("cudaHostAlloc", size, 0))

    def free_pinned(self, pointer: int) -> None:
        self._release("cudaFreeHost", pointer)

    def create_stream(self) -> int:
        flags = int(self.runtime.cudaStreamNonBlocking)
        return int(self._call("cudaStreamCreateWithFlags", flags))

    def destroy_stream(self, stream: int) -> None:
        self._release("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy between any two of host and GPU memory."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDefault
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def create_event(self) -> Any:
        return self._call("cudaEventCreate")

    def destroy_event(self, event: Any) -> None:
        self._release("cudaEventDestroy", event)

    def record(self, event: Any, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(self._call("cudaEventElapsedTime", start, end))

    def begin_capture(self, stream: int) -> None:
        """Record what is queued from now on instead of running it."""
        # Other threads' calls have nothing to do with this stream.
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Any:
        """Return what was recorded, ready to be launched; None where it cannot be."""
        status, graph = self.runtime.cudaStreamEndCapture(stream)
        if int(status) != 0:
            self.runtime.cudaGetLastError()
            return None
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._release("cudaGraphExecDestroy", graph)

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes of the GPU's memory."""
        status, free, total = self.runtime.cudaMemGetInfo()
        self._raise(status, "cudaMemGetInfo")
        return int(free), int(total)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self.runtime, name)(*arguments)
        self._raise(status, name)
        return values[0] if values else None

    def _release(self, name: str, thing: Any) -> None:
        """Free something. A GPU that broke down fails every call, and all is gone with it."""
        with suppress(BackendError):
            self.use()
            self._call(name, thing)

    def _raise(self, status: Any, name: str) -> None:
        code = int(status)
        if code == 0:
            return
        reason = _MISSING_DRIVER.get(code, getattr(status, "name", "an error"))
        raise BackendError(
            f"CUDA failed in {name}: {reason} (CUDA error {code}); check the GPU with: nvidia-smi"
        )


def import_runtime() -> ModuleType:
    """Import cuda-bindings.

    Raises:
        MissingExtraError: where it is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise MissingExtraError("Running TensorRT engines", "tensorrt", "cuda-bindings") from None
    module: ModuleType = runtime
    return module


class PinnedArray:
    """Pinned host memory of a fixed size, seen as arrays of any shape that fits."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self._cuda, self.size = cuda, size
        self.pointer = cuda.allocate_pinned(size)
        buffer: Any = (ctypes.c_uint8 * size).from_address(self.pointer)
        self._bytes: npt.NDArray[Any] = np.frombuffer(buffer, dtype=np.uint8)

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        count = int(np.prod(shape)) * dtype.itemsize
        found: npt.NDArray[Any] = self._bytes[:count].view(dtype).reshape(shape)
        return found

    def free(self) -> None:
        self._cuda.free_pinned(self.pointer)


class BlockPool:
    """Blocks of one size of GPU or pinned memory: allocating makes a GPU wait, reuse does not."""

    def __init__(self, cuda: Cuda, size: int, pinned: bool = False) -> None:
        self.size = size
        self._allocate = cuda.allocate_pinned if pinned else cuda.allocate
        self._free = cuda.free_pinned if pinned else cuda.free
        self._lock = threading.RLock()  # a garbage collection may give a block back at any moment
        self._idle: list[int] = []
        self._closed = False

    def take(self) -> int:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._allocate(self.size)

    def give_back(self, pointer: int) -> None:
        """Take a block back; after `close` it is freed."""
        with self._lock:
            if not self._closed:
                self._idle.append(pointer)
                return
        self._free(pointer)

    def close(self) -> None:
        """Free the idle blocks; those in use are freed when they come back."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for pointer in idle:
            self._free(pointer)


def lend_array(
    pool: BlockPool, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], int]:
    """Return an array in a block of pinned memory, which the pool gets back with its last view.

    Also returns the block's address. What is copied from a GPU to there needs no copy more.
    """
    pointer = pool.take()
    buffer: Any = (ctypes.c_uint8 * pool.size).from_address(pointer)
    weakref.finalize(buffer, pool.give_back, pointer).atexit = False  # as of `CudaArray`
    count = math.prod(shape)
    return np.frombuffer(buffer, dtype=dtype, count=count).reshape(shape), pointer


class CudaArray(DeviceArray):
    """An array in a block of a pool, which gets it back with the array's last reference."""

    def __init__(
        self, cuda: Cuda, pool: BlockPool, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, f"cuda:{cuda.index}"
        self._cuda = cuda
        self.pointer = pool.take()
        # Not at exit: by then CUDA may be gone, and the memory goes with the process.
        weakref.finalize(self, pool.give_back, self.pointer).atexit = False

    def numpy(self) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.empty(self.shape, self.dtype)
        self._cuda.use()
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyDefault
        self._cuda._call("cudaMemcpy", array.ctypes.data, self.pointer, self.nbytes, kind)
        return array


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
