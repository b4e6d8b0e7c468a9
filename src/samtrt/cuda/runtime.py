"""The few calls of the CUDA runtime that samtrt makes, each checked; no PyTorch."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from types import ModuleType
from typing import Any

from samtrt.errors import BackendError, DeviceMemoryError, MissingExtraError

OUT_OF_MEMORY = 2
LEGACY_STREAM = 1
"""CUDA's handle of the stream that waits for the streams of threads, and they for it."""
THREAD_STREAM = 2
"""CUDA's handle of a stream that every thread has of its own, for each GPU."""
_HIGHEST = -100
"""A priority below all that there are, which CUDA takes for the highest."""
_MISSING_DRIVER = {
    35: "there is no NVIDIA driver, or it is older than this CUDA needs",
    100: "there is no GPU that CUDA can see",
}


class Cuda:
    """One GPU through the CUDA runtime. Pointers and streams are plain integers.

    CUDA has a current device in each thread: `use` sets it, and every thread calls it first.
    """

    def __init__(self, index: int = 0, extra: str = "tensorrt") -> None:
        self.index = index
        self.runtime = import_runtime(extra)

    def use(self) -> None:
        self._call("cudaSetDevice", self.index)

    @cached_property
    def compute_capability(self) -> str:
        """The GPU's, such as "9.0"."""
        found = self._call("cudaGetDeviceProperties", self.index)
        return f"{found.major}.{found.minor}"

    def allocate(self, size: int) -> int:
        """Return `size` bytes of the GPU's memory.

        Raises:
            DeviceMemoryError: where there is not enough; the message says how much is left.
        """
        status, pointer = self.runtime.cudaMalloc(size)
        if int(status) == OUT_OF_MEMORY:
            self.runtime.cudaGetLastError()  # it would answer the next call too
            free, total = self.memory()
            raise DeviceMemoryError(
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

    def create_stream(self, is_urgent: bool = False) -> int:
        """Return a stream; what an urgent one holds goes before what others hold."""
        flags = int(self.runtime.cudaStreamNonBlocking)
        priority = _HIGHEST if is_urgent else 0
        return int(self._call("cudaStreamCreateWithPriority", flags, priority))

    def destroy_stream(self, stream: int) -> None:
        self._release("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def synchronize_device(self) -> None:
        """Wait for all that was queued on the GPU, by whomever."""
        self._call("cudaDeviceSynchronize")

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy between any two of host and GPU memory."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDefault
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def clear(self, target: int, size: int, stream: int) -> None:
        """Queue zeros for GPU memory."""
        self._call("cudaMemsetAsync", target, 0, size, stream)

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


def import_runtime(extra: str) -> ModuleType:
    """Import cuda-bindings, which is part of this extra.

    Raises:
        MissingExtraError: where it is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise MissingExtraError("Running on a GPU", extra, "cuda-bindings") from None
    module: ModuleType = runtime
    return module


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
