"""GPU memory and pinned host memory as arrays, in blocks that are used again.

Allocating and freeing make a GPU wait for all of its work; a block from a pool does not. The
contents of an array are complete before anyone gets it: whoever makes one waits for its stream.
"""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.cuda.runtime import THREAD_STREAM, Cuda
from samtrt.errors import DeviceMemoryError, MissingExtraError
from samtrt.types import DeviceArray

_LEAST = 1 << 9
PINNED_MOST = 1 << 31
"""Bytes of pinned memory out at once; beyond them copies on the host lie in ordinary memory."""


class Pool:
    """Blocks of one kind of memory, of sizes that are rounded up to one of four in each doubling.

    Blocks come back with the last reference to what lies in them, in whatever thread that goes.
    """

    def __init__(self, cuda: Cuda, pinned: bool = False) -> None:
        self._cuda = cuda
        self._allocate = cuda.allocate_pinned if pinned else cuda.allocate
        self._free = cuda.free_pinned if pinned else cuda.free
        self._lock = threading.RLock()  # a garbage collection may give a block back at any moment
        self._idle: defaultdict[int, list[int]] = defaultdict(list)
        self._shared: set[int] = set()
        self._closed = False
        self.out = 0

    def take(self, size: int, owner: object) -> int:
        """Return the address of at least `size` bytes, which are `owner`'s as long as it lives.

        Raises:
            DeviceMemoryError: where there are not as many, in idle blocks of other sizes neither.
        """
        size = _rounded(size)
        with self._lock:
            pointer = self._idle[size].pop() if self._idle[size] else None
            shared = pointer in self._shared
            self._shared.discard(pointer or 0)
        if pointer is None:
            pointer = self._new(size)
        elif shared:
            self._cuda.synchronize_device()
        with self._lock:
            self.out += size
        # Not at exit: by then CUDA may be gone, and the memory goes with the process.
        weakref.finalize(owner, self._give_back, pointer, size).atexit = False
        return pointer

    def share(self, pointer: int) -> None:
        """Note that others use a block, in streams that we do not know.

        They may drop it while the GPU has yet to read it, so that its next user waits for the GPU.
        """
        with self._lock:
            self._shared.add(pointer)

    def _new(self, size: int) -> int:
        try:
            return self._allocate(size)
        except DeviceMemoryError:
            if not self.trim():
                raise
        return self._allocate(size)

    def _give_back(self, pointer: int, size: int) -> None:
        with self._lock:
            self.out -= size
            if not self._closed:
                self._idle[size].append(pointer)
                return
        self._free(pointer)

    def trim(self) -> int:
        """Free the idle blocks; return how many there were."""
        with self._lock:
            idle = [pointer for pointers in self._idle.values() for pointer in pointers]
            self._idle.clear()
            self._shared.difference_update(idle)
        for pointer in idle:
            self._free(pointer)
        return len(idle)

    def close(self) -> None:
        """Free the idle blocks; those in use are freed when they come back."""
        with self._lock:
            self._closed = True
        self.trim()


class Memory:
    """Arrays on one GPU, and what is copied from there to the host."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.pool = Pool(cuda)
        self.pinned = Pool(cuda, pinned=True)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CudaArray:
        """Return an array that may hold anything.

        Raises:
            DeviceMemoryError: where the GPU has not as much memory.
        """
        block = _Block()
        block.pool = self.pool
        block.pointer = self.pool.take(dtype.itemsize * math.prod(shape), block)
        return CudaArray(self, block.pointer, shape, dtype, block)

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

    def __dlpack__(self, **options: Any) -> Any:
        try:
            from cuda.core import Buffer
            from cuda.core.utils import StridedMemoryView
        except ImportError:
            raise MissingExtraError("Sharing GPU arrays", "tensorrt", "cuda-core") from None
        if isinstance(self.owner, _Block):
            self.owner.pool.share(self.owner.pointer)
        self.memory.cuda.use()
        buffer = Buffer.from_handle(self.pointer, self.nbytes, owner=self)
        view = StridedMemoryView.from_buffer(buffer, self.shape, dtype=self.dtype)
        return view.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.memory.cuda.index

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if isinstance(self.owner, _Block):
            self.owner.pool.share(self.owner.pointer)
        return super().__cuda_array_interface__


def _rounded(size: int) -> int:
    """Round up, by at most a quarter: blocks of like sizes can stand in for one another."""
    step = max(_LEAST, 1 << max(size - 1, 1).bit_length() >> 3)
    return max(-(-size // step), 1) * step
