"""Processes that read what clients send, each of which can be stopped at any moment.

A decoder of pictures cannot be interrupted from within its process, and may take any time and
memory, or crash. So it runs in a process that is killed when nobody waits for it any more. This is
no sandbox: a process may do what the server's user may.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

from samtrt.errors import SamtrtError
from samtrt.server.allocator import give_memory_back

P = ParamSpec("P")
T = TypeVar("T")

SLACK = 48 << 20
"""Bytes that a reader may take beyond what it is allowed: buffers of decoders, the allocator's."""

LARGE = 128 << 20
"""Allowance after whose use a process is replaced: freed memory does not all go back."""


GROWTH = 48 << 20
"""Bytes that a process may keep of its work, beside its allowance for the next."""


class ReaderDiedError(SamtrtError):
    """The process ended in the middle of its work: it crashed, or the system killed it."""

    def __init__(self) -> None:
        super().__init__("reading this ended the process that read it")


class Reader:
    """One process, as an executor of its own, so that killing it costs nobody else's work."""

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(1, _context(), initializer=_begin)
        self._pid = self._executor.submit(os.getpid).result()
        # No public name: the end of the pipe that the process writes its answers to.
        self._answers = self._executor._result_queue._writer  # type: ignore[attr-defined]

    async def run(self, allowance: int, work: Callable[..., T], *args: object) -> T:
        return await asyncio.wrap_future(self._executor.submit(_run, allowance, work, args))

    def call(self, seconds: float, allowance: int, work: Callable[..., T], *args: object) -> T:
        """Run `work` for a thread that waits, in a process that keeps what it holds between calls.

        Args:
            seconds: After which the process is killed.
            allowance: Bytes that it may hold beyond those of its start.
            work: As of `Readers.run`.

        Raises:
            TimeoutError: after `seconds`.
            ReaderDiedError, MemoryError, Exception: as of `Readers.run`.
        """
        future = self._executor.submit(_run_on, allowance, work, args)
        try:
            return future.result(seconds)
        except concurrent.futures.TimeoutError:  # two classes before Python 3.11
            if future.done():  # raised by the work itself
                raise
            self.kill()
            raise TimeoutError from None
        except BrokenProcessPool:
            self.kill()
            raise ReaderDiedError from None

    async def grown(self) -> int:
        """Return by how many bytes of data it has grown since its start, where that is known."""
        return await asyncio.wrap_future(self._executor.submit(_grown))

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._executor.shutdown(wait=False, cancel_futures=True)
        # A process that is killed while it writes leaves half an answer in the pipe. The thread
        # that reads it waits for the rest for as long as anybody holds the writing end, which this
        # process does; and at its exit, Python waits for that thread.
        self._answers.close()


class Readers:
    """A number of processes, started when they are needed. Lives in one event loop."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._seats = asyncio.Semaphore(count)
        self._idle: list[Reader] = []
        self._all: set[Reader] = set()
        self._closed = False

    async def start(self) -> None:
        """Start all processes, so that the first request does not wait for them."""
        for reader in await asyncio.gather(*(self._open() for _ in range(self._count))):
            self._keep(reader)

    async def run(
        self, allowance: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in a process; cancelling kills that process at once.

        Args:
            allowance: Bytes that it may allocate, where the system can limit them.
            work: A function of a module, whose arguments and result can be pickled.

        Raises:
            ReaderDiedError: where the process died.
            MemoryError: where it takes more than the allowance.
            Exception: what `work` raises.
        """
        async with self._seats:
            reader = self._idle.pop() if self._idle else await self._open()
            try:
                result = await reader.run(allowance, work, *args, **kwargs)
            except BrokenProcessPool:
                self._discard(reader)
                raise ReaderDiedError from None
            except asyncio.CancelledError:
                self._discard(reader)
                raise
            except BaseException:
                await self._put_back(reader, allowance)
                raise
            await self._put_back(reader, allowance)
            return result

    async def _put_back(self, reader: Reader, allowance: int) -> None:
        """Keep a process for the next call, but for one that has not given its memory back."""
        try:
            small = allowance < LARGE and await reader.grown() < GROWTH
        except (BrokenProcessPool, asyncio.CancelledError):
            self._discard(reader)
            raise
        if small:
            self._keep(reader)
        else:
            self._discard(reader)

    async def _open(self) -> Reader:
        """Start a process in a thread; one that nobody waits for any more is kept for the next."""
        task = asyncio.ensure_future(asyncio.to_thread(Reader))
        try:
            reader = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._opened_in_vain)
            raise
        self._all.add(reader)
        return reader

    def _opened_in_vain(self, task: asyncio.Future[Reader]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._all.add(task.result())
            self._keep(task.result())

    def _keep(self, reader: Reader) -> None:
        if self._closed or len(self._idle) >= self._count:
            self._discard(reader)
        else:
            self._idle.append(reader)

    def _discard(self, reader: Reader) -> None:
        self._all.discard(reader)
        reader.kill()

    def close(self) -> None:
        """Kill every process, whatever it does."""
        self._closed = True
        for reader in list(self._all):
            self._discard(reader)
        self._idle.clear()


def _context() -> multiprocessing.context.BaseContext:
    """Return how processes start: never as a copy of the server, whose threads hold locks."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["samtrt.server.untrusted"])
    return context


def _begin() -> None:
    """Prepare a process: Ctrl-C is the server's business, and so is when this one ends."""
    import cv2

    give_memory_back()
    cv2.setNumThreads(1)  # each of several has a core
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform == "linux":
        _held_at_start()
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has no file to write


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(allowance: int, work: Callable[..., T], args: tuple[object, ...]) -> T:
    _limit_memory(_held, allowance)
    return work(*args)


def _run_on(allowance: int, work: Callable[..., T], args: tuple[object, ...]) -> T:
    """Do as `_run`, where what earlier calls left counts as part of the allowance."""
    _limit_memory(_held_at_start, allowance)
    return work(*args)


def _limit_memory(held: Callable[[], int], allowance: int) -> None:
    """Let this process hold so much more than `held` says; beyond, it gets MemoryError."""
    if sys.platform == "linux":
        import resource

        limit = held() + allowance + SLACK
        resource.setrlimit(
            resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )


@lru_cache
def _held_at_start() -> int:
    """Return the bytes of data that the process held before its first work."""
    return _held()


def _grown() -> int:
    return _held() - _held_at_start() if sys.platform == "linux" else 0


def _held() -> int:
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    return pages * resource.getpagesize()
