"""What one execution context needs to run: buffers, a stream, and a CUDA graph."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import Tensors
from samtrt.backends.tensorrt.cuda import BlockPool, Cuda, CudaArray, PinnedArray, lend_array
from samtrt.backends.tensorrt.jit_cache import JitCache
from samtrt.errors import BackendError
from samtrt.tensorrt.api import Api, capture, explain_cuda_failure
from samtrt.types import to_host

Largest = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

_READ_ONLY_WITH = {"mask_input": "has_mask_input"}
"""An input that the graph does not read where the other one is zero: then it is not copied."""


class Lane:
    """One context of an engine, with memory for its largest shapes. For one thread at a time.

    The second run with the same shapes is recorded as a CUDA graph and replayed from then on: a
    decoder has hundreds of small kernels, and starting each costs more than it takes. A graph
    holds its shapes, so another shape drops it. With a `jit` cache the library records graphs.
    """

    def __init__(
        self,
        api: Api,
        cuda: Cuda,
        engine: Any,
        inputs: Largest,
        outputs: Largest,
        jit: JitCache | None = None,
    ) -> None:
        self._api, self._cuda, self._engine = api, cuda, engine
        self._dtypes = {name: dtype for name, (_, dtype) in {**inputs, **outputs}.items()}
        sizes = {name: _bytes(*largest) for name, largest in {**inputs, **outputs}.items()}
        self.output_sizes = {name: sizes[name] for name in outputs}
        self._device: dict[str, int] = {}
        self._pinned: dict[str, PinnedArray] = {}
        self._rows: dict[str, BlockPool] = {}
        self._events: list[Any] = []
        self._graph: Any = None
        self._stream: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._runs_alike = 0
        self._jit = jit
        self._capturable = jit is None
        self._context: Any = None
        try:
            self._stream = cuda.create_stream()
            for _ in range(2):
                self._events.append(cuda.create_event())
            for name, size in sizes.items():
                self._device[name] = cuda.allocate(size)
                self._pinned[name] = PinnedArray(cuda, size)
            self._clear_unread()
            self._context = self._create_context()
            for name, pointer in self._device.items():
                self._context.set_tensor_address(name, pointer)
        except BaseException:
            self.close()
            raise

    def _clear_unread(self) -> None:
        """Give inputs that are not copied something to hold: fresh memory may be NaN."""
        for name in _READ_ONLY_WITH.keys() & self._device.keys():
            staging = self._pinned[name]
            staging.view((staging.size,), np.dtype(np.uint8))[:] = 0
            self._cuda.copy(self._device[name], staging.pointer, staging.size, self._open)
        self._cuda.synchronize(self._open)

    def _create_context(self) -> Any:
        with capture(self._api.logger) as messages:
            settings = [self._jit.config] if self._jit else []
            context = self._engine.create_execution_context(*settings)
        if context is None:
            raise BackendError(self._failed("cannot make room to run the engine", messages))
        return context

    def run(self, feeds: Tensors) -> None:
        """Copy checked feeds in, run, and wait. Outputs stay where `fetch` finds them."""
        try:
            self._set_shapes({name: tuple(tensor.shape) for name, tensor in feeds.items()})
            for name, tensor in feeds.items():
                flag = _READ_ONLY_WITH.get(name)
                if flag is None or np.any(to_host(feeds[flag])):
                    self._copy_in(name, tensor)
            self._cuda.record(self._events[0], self._open)
            self._execute()
            self._cuda.record(self._events[1], self._open)
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

    def _copy_in(self, name: str, tensor: Any) -> None:
        pointer, size = self._device[name], tensor.nbytes
        if isinstance(tensor, CudaArray) and tensor.device == f"cuda:{self._cuda.index}":
            self._cuda.copy(pointer, tensor.pointer, size, self._open)
            return
        array = to_host(tensor)
        staging = self._pinned[name]
        np.copyto(staging.view(array.shape, array.dtype), array)
        if size:
            self._cuda.copy(pointer, staging.pointer, size, self._open)

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

    def shape(self, name: str) -> tuple[int, ...]:
        """Return an output's shape in the last run."""
        return tuple(self._context.get_tensor_shape(name))

    def fetch(self, name: str) -> npt.NDArray[Any]:
        """Copy an output of the last run to the host."""
        shape, dtype = self.shape(name), self._dtypes[name]
        staging = self._pinned[name]
        self._cuda.copy(staging.pointer, self._device[name], _bytes(shape, dtype), self._open)
        self._cuda.synchronize(self._open)
        return staging.view(shape, dtype).copy()

    def fetch_rows(self, name: str, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Copy some rows of an output to the host, which count its first two axes together.

        They stay in the pinned memory that they are copied to: there may be gigabytes of them.
        """
        shape, dtype = self.shape(name)[2:], self._dtypes[name]
        size = _bytes(shape, dtype)
        if name not in self._rows:
            self._rows[name] = BlockPool(self._cuda, self.output_sizes[name], pinned=True)
        array, pointer = lend_array(self._rows[name], (len(rows), *shape), dtype)
        # Rows that follow one another are one copy.
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(part):
                to = pointer + int(part[0]) * size
                source = self._device[name] + int(rows[part[0]]) * size
                self._cuda.copy(to, source, len(part) * size, self._open)
        self._cuda.synchronize(self._open)
        return array

    def copy_out(self, name: str, pointer: int) -> None:
        """Copy an output of the last run to elsewhere on the GPU."""
        size = _bytes(self.shape(name), self._dtypes[name])
        self._cuda.copy(pointer, self._device[name], size, self._open)
        self._cuda.synchronize(self._open)

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
        for pointer in self._device.values():
            self._cuda.free(pointer)
        for staging in self._pinned.values():
            staging.free()
        for pool in self._rows.values():
            pool.close()
        for event in self._events:
            self._cuda.destroy_event(event)
        if self._stream is not None:
            self._cuda.destroy_stream(self._stream)
        self._device, self._pinned, self._events, self._stream = {}, {}, [], None


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape)) * dtype.itemsize
