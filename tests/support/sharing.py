"""What the processes of a run share: cores, and what is costly to make, which is made once."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

Make = Callable[[Path], object]
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def share_cores() -> None:
    """Give each process of a run a core of its own where there are no more cores than processes.

    Runtimes start a thread for each core that they see, and those of two processes spin while they
    wait for one another: ONNX Runtime then takes two to four times the CPU time.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    worker = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
    if not worker or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= int(os.environ["PYTEST_XDIST_WORKER_COUNT"]):
        os.sched_setaffinity(0, {cores[int(worker[1]) % len(cores)]})


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let memory that was freed stay with the process, with glibc.

    Attention over 64 x 64 tokens takes 800 MB a layer; to get it from the system again and again
    takes a third of the time of a run on one core.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_MAX, 65536)  # glibc's own
        libc.mallopt(_M_TRIM_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)


def root_of_run(base: Path) -> Path:
    """Return a directory that every process of a run finds, given pytest's own for this process."""
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    return root


def made_once(directory: Path, make: Make) -> Path:
    """Return a directory that `make` has filled, now or earlier; it is not to be changed."""
    with FileLock(f"{directory}.lock"):
        if not directory.exists():
            half = directory.with_name(f"{directory.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(directory)
    return directory


def name_of(options: dict[str, object]) -> str:
    """Return a file name that tells options of an export apart."""
    words = (f"{name}={getattr(options[name], 'value', options[name])}" for name in sorted(options))
    return ",".join(["tiny", *words])
