"""Blocks of GPU memory, or of pinned host memory, that are used again."""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict

from samtrt.cuda.runtime import Cuda
from samtrt.errors import DeviceMemoryError

_LEAST = 1 << 9


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


def _rounded(size: int) -> int:
    """Round up, by at most a quarter: blocks of like sizes can stand in for one another."""
    step = max(_LEAST, 1 << max(size - 1, 1).bit_length() >> 3)
    return max(-(-size // step), 1) * step
