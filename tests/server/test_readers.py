"""Processes that read untrusted bytes: killed, out of memory, crashed, and outlived by nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from samtrt.server.readers import ReaderDiedError, Readers
from support.server_cases import wait_for

T = TypeVar("T")
MIB = 1 << 20


def with_readers(work: Callable[[Readers], Awaitable[T]], count: int = 1) -> T:
    async def run() -> T:
        readers = Readers(count)
        try:
            return await work(readers)
        finally:
            readers.close()

    return asyncio.run(run())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def allocate(nbytes: int) -> int:
    return int(np.ones(nbytes, dtype=np.uint8).sum())


def fail() -> None:
    raise ValueError("on purpose")


def begin_an_answer() -> None:
    """Write the beginning of an answer of a million bytes, and stop there."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    pipe = frame.f_locals["result_queue"]._writer.fileno()
    os.write(pipe, struct.pack("!i", 1_000_000) + b"half")
    time.sleep(60)


def test_work_is_done_elsewhere_and_the_process_is_used_again() -> None:
    async def work(readers: Readers) -> list[int]:
        return [await readers.run(MIB, os.getpid) for _ in range(3)]

    pids = with_readers(work)
    assert len(set(pids)) == 1
    assert pids[0] != os.getpid()


def test_cancelling_kills_the_process() -> None:
    async def work(readers: Readers) -> tuple[int, int]:
        first = await readers.run(MIB, os.getpid)
        task = asyncio.ensure_future(readers.run(MIB, time.sleep, 600))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return first, await readers.run(MIB, os.getpid)

    first, second = with_readers(work)
    assert first != second
    wait_for(lambda: not is_alive(first))


def test_a_crash_costs_one_call() -> None:
    async def work(readers: Readers) -> int:
        with pytest.raises(ReaderDiedError):
            await readers.run(MIB, os.abort)
        return await readers.run(MIB, max, 1, 2)

    assert with_readers(work) == 2


def test_an_error_of_the_work_costs_no_process() -> None:
    async def work(readers: Readers) -> None:
        first = await readers.run(MIB, os.getpid)
        with pytest.raises(ValueError, match="on purpose"):
            await readers.run(MIB, fail)
        assert await readers.run(MIB, os.getpid) == first

    with_readers(work)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process allocates")
def test_memory_has_a_limit_for_each_call() -> None:
    async def work(readers: Readers) -> None:
        for _ in range(2):
            with pytest.raises(MemoryError):
                await readers.run(16 * MIB, allocate, 160 * MIB)
            assert await readers.run(200 * MIB, allocate, 160 * MIB) == 160 * MIB

    with_readers(work)


KEPT: list[np.ndarray] = []


def keep(nbytes: int, fails: bool) -> int:
    """Hold memory for good, as a decoder that leaks; return the process."""
    KEPT.append(np.ones(nbytes, dtype=np.uint8))
    if fails:
        raise ValueError(str(os.getpid()))
    return os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds")
@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_keeps_memory_is_replaced(fails: bool) -> None:
    """What it holds would come on top of every later allowance."""

    async def work(readers: Readers) -> None:
        first = await readers.run(MIB, os.getpid)
        assert await readers.run(100 * MIB, allocate, 90 * MIB) == 90 * MIB  # and gives it back
        assert await readers.run(MIB, os.getpid) == first
        if fails:
            with pytest.raises(ValueError, match=str(first)):
                await readers.run(100 * MIB, keep, 64 * MIB, fails)
        else:
            assert await readers.run(100 * MIB, keep, 64 * MIB, fails) == first
        assert await readers.run(MIB, os.getpid) != first
        wait_for(lambda: not is_alive(first))

    with_readers(work)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process allocates")
def test_freed_blocks_make_room_for_larger_ones() -> None:
    """Pillow frees pictures in blocks of 16 MB, which glibc would keep."""

    async def work(readers: Readers) -> None:
        for _ in range(3):
            assert await readers.run(90 * MIB, allocate_in_blocks, 80 * MIB) == 80 * MIB
            assert await readers.run(90 * MIB, allocate, 80 * MIB) == 80 * MIB

    with_readers(work)


def allocate_in_blocks(nbytes: int) -> int:
    blocks = [np.ones(16 * MIB, dtype=np.uint8) for _ in range(nbytes // (16 * MIB))]
    last = np.ones(1024, dtype=np.uint8)  # above them, where they come from one heap
    return sum(block.size for block in blocks) + 0 * last.size


def test_no_more_than_the_number_run_at_once() -> None:
    async def work(readers: Readers) -> set[int]:
        return set(await asyncio.gather(*(readers.run(MIB, os.getpid) for _ in range(6))))

    assert len(with_readers(work, count=2)) <= 2


def test_closing_kills_what_is_at_work() -> None:
    async def work() -> int:
        readers = Readers(1)
        pid = await readers.run(MIB, os.getpid)
        task = asyncio.ensure_future(readers.run(MIB, time.sleep, 600))
        await asyncio.sleep(0.1)
        readers.close()
        await asyncio.wait([task], timeout=30)
        assert task.done()
        assert task.exception() is not None
        return pid

    pid = asyncio.run(work())
    wait_for(lambda: not is_alive(pid))


ORPHANED = """
import asyncio, os, time
from samtrt.server.readers import Readers

async def main():
    readers = Readers(1)
    print(await readers.run(1 << 20, os.getpid), flush=True)
    await readers.run(1 << 20, time.sleep, 600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_it_ends_with_a_server_that_is_killed() -> None:
    server = subprocess.Popen([sys.executable, "-c", ORPHANED], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    pid = int(server.stdout.readline())
    assert is_alive(pid)
    server.send_signal(signal.SIGKILL)
    server.wait(10)
    server.stdout.close()
    wait_for(lambda: not is_alive(pid))


def test_half_an_answer_keeps_nobody_waiting() -> None:
    async def work(readers: Readers) -> bool:
        await readers.start()
        (reader,) = readers._all
        thread = reader._executor._executor_manager_thread
        task = asyncio.create_task(readers.run(MIB, begin_an_answer))
        await asyncio.sleep(1)  # by then the thread has begun to read it
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(thread.join, 20)
        return bool(thread.is_alive())

    assert not with_readers(work)
