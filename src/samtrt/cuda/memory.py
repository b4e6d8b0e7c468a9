"""GPU memory and pinned host memory as arrays, in blocks that are used again.

Allocating and freeing make a GPU wait for all of its work; a block from a pool does not. The
contents of an array are complete before anyone gets it: whoever makes one waits for its stream.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from samtrt.cuda.pool import Pool
from samtrt.cuda.runtime import LEGACY_STREAM, THREAD_STREAM, Cuda
from samtrt.errors import BackendError, MissingExtraError
from samtrt.types import DeviceArray, Tensor, to_host

T = TypeVar("T")

_MOST_KEPT = 16
PINNED_MOST = 1 << 31
"""Bytes of pinned memory out at once; beyond them copies on the host lie in ordinary memory."""


class Memory:
    """Arrays on one GPU, and what is copied from there to the host.

    Attributes:
        has_kernels: Whether kernels of ours work on them (`--pixels host` does without).
    """

    def __init__(self, cuda: Cuda, has_kernels: bool = True) -> None:
        self.cuda, self.has_kernels = cuda, has_kernels
        self.pool = Pool(cuda)
        self.pinned = Pool(cuda, pinned=True)
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, key: Any, make: Callable[[], T]) -> T:
        """Return what `make` made for a key before, of the last few keys, or make it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key]
                return found
        made = make()
        with self._lock:
            self._kept[key] = made
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return made

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CudaArray:
        """Return an array that may hold anything.

        Raises:
            DeviceMemoryError: where the GPU has not as much memory.
        """
        block = _Block()
        block.pool = self.pool
        block.pointer = self.pool.take(dtype.itemsize * math.prod(shape), block)
        return CudaArray(self, block.pointer, shape, dtype, block)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CudaArray:
        """Return an array that will hold zeros, after what the thread's stream holds before.

        Raises:
            DeviceMemoryError: where the GPU has not as much memory.
        """
        array = self.empty(shape, dtype)
        if array.nbytes:
            self.cuda.clear(array.pointer, array.nbytes, THREAD_STREAM)
        return array

    def upload(self, array: npt.NDArray[Any]) -> CudaArray:
        """Return an array that will hold a host array's values, as `zeros`.

        It must be kept until the thread's stream has been waited for.

        Raises:
            DeviceMemoryError: where the GPU has not as much memory.
        """
        staged = self.empty_host(array.shape, array.dtype)
        np.copyto(staged, array)
        copied = self.empty(array.shape, array.dtype)
        if copied.nbytes:
            self.cuda.copy(copied.pointer, staged.ctypes.data, copied.nbytes, THREAD_STREAM)
        copied.owner = (copied.owner, staged)
        return copied

    def synchronize(self) -> None:
        """Wait for what is queued in the calling thread's stream."""
        self.cuda.synchronize(THREAD_STREAM)

    def empty_host(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return a host array that may hold anything, in pinned memory, which copies go fast to."""
        count = math.prod(shape)
        size = max(count * dtype.itemsize, 1)
        if self.pinned.out + size > PINNED_MOST:
            return np.empty(shape, dtype)
        block = _Block()
        buffer: Any = (ctypes.c_uint8 * size).from_address(self.pinned.take(size, block))
        buffer.block = block  # the array refers to the buffer
        return np.frombuffer(buffer, dtype=dtype, count=count).reshape(shape)

    def close(self) -> None:
        """Free what is idle; what is in use is freed with its last reference."""
        with self._lock:
            self._kept.clear()
        self.pool.close()
        self.pinned.close()


class _Block:
    """Owns a block of a pool."""

    pool: Pool
    pointer: int


class CudaArray(DeviceArray):
    """An array in the memory of a GPU, which `owner` keeps alive."""

    def __init__(
        self,
        memory: Memory,
        pointer: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        owner: object,
    ) -> None:
        self.memory, self.pointer, self.shape, self.dtype = memory, pointer, shape, dtype
        self.device = f"cuda:{memory.cuda.index}"
        self.owner = owner

    def numpy(self) -> npt.NDArray[Any]:
        cuda = self.memory.cuda
        cuda.use()
        array = self.memory.empty_host(self.shape, self.dtype)
        if self.nbytes:
            cuda.copy(array.ctypes.data, self.pointer, self.nbytes, THREAD_STREAM)
            cuda.synchronize(THREAD_STREAM)
        return array

    def _view(self, row: int, shape: tuple[int, ...]) -> CudaArray:
        offset = row * self.dtype.itemsize * math.prod(self.shape[1:])
        return CudaArray(self.memory, self.pointer + offset, shape, self.dtype, self.owner)

    def _take(self, rows: npt.NDArray[np.intp]) -> CudaArray:
        cuda = self.memory.cuda
        cuda.use()
        taken = self.memory.empty((len(rows), *self.shape[1:]), self.dtype)
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        # Rows that follow one another are one copy.
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(part) and size:
                target = taken.pointer + int(part[0]) * size
                source = self.pointer + int(rows[part[0]]) * size
                cuda.copy(target, source, len(part) * size, THREAD_STREAM)
        cuda.synchronize(THREAD_STREAM)
        return taken

    def copy(self) -> CudaArray:
        """Return a copy with memory of its own, on the same GPU."""
        whole = self._view(0, (1, *self.shape))
        return whole._take(np.zeros(1, np.intp))._view(0, self.shape)

    def _share(self) -> None:
        """Note that others use the memory; see `Pool.share`."""
        block = self.owner[0] if isinstance(self.owner, tuple) else self.owner
        if isinstance(block, _Block):
            block.pool.share(block.pointer)

    def __dlpack__(self, **options: Any) -> Any:
        try:
            from cuda.core import Buffer
            from cuda.core.utils import StridedMemoryView
        except ImportError:
            raise MissingExtraError("Sharing GPU arrays", "tensorrt", "cuda-core") from None
        self._share()
        self.memory.cuda.use()
        buffer = Buffer.from_handle(self.pointer, self.nbytes, owner=self)
        view = StridedMemoryView.from_buffer(buffer, self.shape, dtype=self.dtype)
        return view.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.memory.cuda.index

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._share()
        return super().__cuda_array_interface__


def adopted(array: Any, memory: Memory) -> CudaArray | None:
    """Return the array of another library on a GPU, without a copy; None where it is not one.

    What that library has queued for it is done before what the thread's stream gets next.

    Raises:
        BackendError: where there are gaps between its elements.
        MissingExtraError: where cuda-core is not installed.
    """
    if not hasattr(array, "__cuda_array_interface__") and not hasattr(array, "__dlpack__"):
        return None
    try:
        from cuda.core.utils import StridedMemoryView
    except ImportError:
        raise MissingExtraError("Taking another library's arrays", "kernels", "cuda-core") from None
    memory.cuda.use()
    # PyTorch takes no thread's stream; those wait for the legacy one.
    view = StridedMemoryView.from_any_interface(array, stream_ptr=LEGACY_STREAM)
    if not view.is_device_accessible:
        return None
    shape, dtype = tuple(view.shape), np.dtype(view.dtype)
    dense = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    if view.strides is not None and tuple(view.strides) != dense:
        raise BackendError(
            "an array on a GPU must lie in C order, without gaps: use "
            "cupy.ascontiguousarray(array) or tensor.contiguous()"
        )
    found = CudaArray(memory, view.ptr, shape, dtype, (array, view))
    found.device = f"cuda:{view.device_id}"
    return found


def all_to_host(arrays: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
    """Return NumPy arrays, copied where they are not: those on a GPU with one wait for all."""
    found: list[npt.NDArray[Any]] = []
    memory: Memory | None = None
    for array in arrays:
        if not isinstance(array, CudaArray) or (memory and array.memory is not memory):
            found.append(to_host(array))
            continue
        if memory is None:
            memory = array.memory
            memory.cuda.use()
        copied = memory.empty_host(array.shape, array.dtype)
        if array.nbytes:
            memory.cuda.copy(copied.ctypes.data, array.pointer, array.nbytes, THREAD_STREAM)
        found.append(copied)
    if memory:
        memory.synchronize()
    return found


def joined(arrays: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first axis, where the arrays are; one alone is not copied."""
    first = arrays[0]
    if len(arrays) == 1:
        return first
    if not isinstance(first, CudaArray):
        return np.concatenate([to_host(array) for array in arrays])
    memory = first.memory
    memory.cuda.use()
    whole = memory.empty((sum(map(len, arrays)), *first.shape[1:]), first.dtype)
    at = whole.pointer
    for array in arrays:
        assert isinstance(array, CudaArray)
        memory.cuda.copy(at, array.pointer, array.nbytes, THREAD_STREAM)
        at += array.nbytes
    memory.synchronize()
    return whole
