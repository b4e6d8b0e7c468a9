"""The C library's allocator, told to give memory back."""

from __future__ import annotations

import contextlib
import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h


def give_memory_back() -> None:
    """Have freed memory go back to the system: glibc keeps much of it, apart for each thread.

    It also raises by itself what it keeps, after the first large block that is freed.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
