"""What one execution context needs to run: buffers, a stream, and a CUDA graph."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import Tensors, is_zero
from samtrt.backends.tensorrt.jit_cache import JitCache
from samtrt.cuda.memory import CudaArray, Memory
from samtrt.errors import BackendError
from samtrt.tensorrt.api import Api, capture, explain_cuda_failure
from samtrt.types import DeviceArray, Tensor, to_host

Largest = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


class Lane:
    """One context of an engine, with memory for its largest shapes. For one thread at a time.

    The second run with the same shapes is recorded as a CUDA graph and replayed from then on: a
    decoder has hundreds of small kernels, and starting each costs more than it takes. A graph
    holds its shapes, so another shape drops it. With a `jit` cache the library records graphs.
    """

    def __init__(
        self,
        api: Api,
        memory: Memory,
        engine: Any,
        inputs: Largest,
        outputs: Largest,
        jit: JitCache | None = None,
        is_urgent: bool = False,
    ) -> None:
        self._api, self._engine = api, engine
        self.memory = memory
        self._cuda = cuda = memory.cuda
        self._largest, self._outputs = {**inputs, **outputs}, tuple(outputs)
        self.largest_inputs = {name: shape for name, (shape, _) in inputs.items()}
        self._buffers: dict[str, CudaArray] = {}
        self._staging: dict[str, npt.NDArray[np.uint8]] = {}
        self._zeros: set[str] = set()
        self._events: list[Any] = []
        self._graph: Any = None
        self._stream: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._runs_alike = 0
        self._jit = jit
        self._capturable = jit is None
        self._context: Any = None
        try:
            self._stream = cuda.create_stream(is_urgent)
            for _ in range(2):
                self._events.append(cuda.create_event())
            byte = np.dtype(np.uint8)
            for name, largest in self._largest.items():
                size = _bytes(*largest)
                self._buffers[name] = self.memory.empty((size,), byte)
                if name in inputs:
                    self._staging[name] = self.memory.empty_host((size,), byte)
            self._context = self._create_context()
            for name, buffer in self._buffers.items():
                self._context.set_tensor_address(name, buffer.pointer)
        except BaseException:
            self.close()
            raise

    def _create_context(self) -> Any:
        with capture(self._api.logger) as messages:
            settings = [self._jit.config] if self._jit else []
            context = self._engine.create_execution_context(*settings)
        if context is None:
            raise BackendError(self._failed("cannot make room to run the engine", messages))
        return context

    def run(
        self, feeds: Tensors, on_host: bool, rows: int | None = None
    ) -> dict[str, npt.NDArray[Any] | CudaArray]:
        """Copy checked feeds in, run, and wait for copies of all outputs.

        Args:
            feeds: As of `Backend.run`.
            on_host: Where to copy outputs; otherwise on the GPU.
            rows: How many rows of each to copy; None for all.
        """
        try:
            self._set_shapes({name: tuple(tensor.shape) for name, tensor in feeds.items()})
            for name, tensor in feeds.items():
                self._copy_in(name, tensor)
            self._cuda.record(self._events[0], self._open)
            self._execute()
            self._cuda.record(self._events[1], self._open)
            return {name: self._copy_out(name, on_host, rows) for name in self._outputs}
        finally:
            # Even after a failure: what was queued still uses the buffers.
            self._cuda.synchronize(self._open)

    @property
    def _open(self) -> int:
        assert self._stream is not None
        return self._stream

    def _set_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            self._runs_alike += 1
            return
        self._drop_graph()
        self._shapes = {}  # unknown, until all are set
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise BackendError(f"{self._api.product} does not take {name} of shape {shape}")
        self._shapes, self._runs_alike = shapes, 1

    def _copy_in(self, name: str, tensor: Tensor) -> None:
        buffer = self._buffers[name]
        if is_zero(tensor):  # such as the masks of prompts without one
            if name not in self._zeros:
                self._cuda.clear(buffer.pointer, buffer.nbytes, self._open)
                self._zeros.add(name)
            return
        self._zeros.discard(name)
        if isinstance(tensor, DeviceArray) and tensor.device == buffer.device:
            if tensor.stream is not None:
                self._cuda.synchronize(tensor.stream)
            source = tensor.pointer
        else:
            array = to_host(tensor)
            staged = self._staging[name][: array.nbytes].view(array.dtype).reshape(array.shape)
            np.copyto(staged, array)
            source = staged.ctypes.data
        if tensor.nbytes:
            self._cuda.copy(buffer.pointer, source, tensor.nbytes, self._open)

    def _execute(self) -> None:
        if self._graph is None and self._runs_alike >= 2 and self._capturable:
            self._record_graph()
        if self._graph is not None:
            self._cuda.launch(self._graph, self._open)
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        with capture(self._api.logger) as messages:
            queued = self._context.execute_async_v3(self._open)
        if not queued:
            raise BackendError(self._failed("failed while running the engine", messages))

    def _record_graph(self) -> None:
        """Record a run; engines that cannot be recorded go on without."""
        self._cuda.begin_capture(self._open)
        queued = False
        try:
            with suppress(BackendError):
                self._enqueue()
                queued = True
        finally:
            self._graph = self._cuda.end_capture(self._open)
            if not queued:
                self._drop_graph()
        self._capturable = self._graph is not None

    def _copy_out(self, name: str, on_host: bool, rows: int | None) -> npt.NDArray[Any] | CudaArray:
        """Queue a copy of an output: the next run writes over the engine's own."""
        shape, dtype = tuple(self._context.get_tensor_shape(name)), self._largest[name][1]
        shape = shape if rows is None else (rows, *shape[1:])
        copied: npt.NDArray[Any] | CudaArray
        if on_host:
            copied = self.memory.empty_host(shape, dtype)
            target = copied.ctypes.data
        else:
            copied = self.memory.empty(shape, dtype)
            target = copied.pointer
        if copied.nbytes:
            self._cuda.copy(target, self._buffers[name].pointer, copied.nbytes, self._open)
        return copied

    def elapsed_ms(self) -> float | None:
        """Milliseconds of the last run on the GPU, or None before the first."""
        return self._cuda.elapsed_ms(*self._events) if self._shapes else None

    def _failed(self, what: str, messages: list[Any]) -> str:
        text = " ".join(message.text.strip() for message in messages if message.is_error)
        reason = explain_cuda_failure(text) or text or "no reason was given"
        return f"{self._api.product} {what}: {reason}"

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None

    def close(self) -> None:
        """Free everything; safe after a constructor that failed half-way."""
        self._drop_graph()
        opened, self._context = self._context is not None, None  # before the memory that it uses
        if self._jit and opened:
            self._jit.save()
        self._engine = self._jit = None
        self._buffers, self._staging = {}, {}
        for event in self._events:
            self._cuda.destroy_event(event)
        if self._stream is not None:
            self._cuda.destroy_stream(self._stream)
        self._events, self._stream = [], None


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape)) * dtype.itemsize
