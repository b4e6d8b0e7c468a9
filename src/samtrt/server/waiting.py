"""Waiting for work no longer than the client does; what was begun holds its slot until it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from fastapi import Request

from samtrt.server.errors import ApiError, ClientLeftError

P = ParamSpec("P")
T = TypeVar("T")

_running: set[asyncio.Future[Any]] = set()
"""Work that its client may have left: the loop alone does not keep it alive."""


async def result_of(future: Future[T], stop: threading.Event | None = None) -> T:
    """Wait for what a thread does.

    Where the wait is cancelled, the work is taken out of its queue or, where it has begun, told by
    `stop` and waited for: whoever holds a slot for it gives that back when it has really ended.
    """
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        if not future.cancel():
            ending = asyncio.wrap_future(future)
            ending.add_done_callback(_settle)
            await asyncio.wait([ending])
        raise


async def run_in(pool: Executor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run short work in a pool's thread; `result_of` says what cancelling does."""
    return await result_of(pool.submit(work, *args, **kwargs))


async def for_client(request: Request, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Wait for `work`; cancel it when the time is up or the client is gone.

    Raises:
        ApiError: 504 where it takes longer than `seconds`.
        ClientLeftError: where the client closes the connection first.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(request))
    for future in (task, left):
        _running.add(future)
        future.add_done_callback(_settle)
    try:
        await asyncio.wait({task, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if left.done():
            raise ClientLeftError
        raise ApiError(504, f"not done after {seconds:g} s: the server gave up", retry_after=10)
    finally:
        task.cancel()
        left.cancel()


def _settle(future: asyncio.Future[Any]) -> None:
    """Let go of a future; nobody may be left who wants to know how it ended."""
    _running.discard(future)
    if not future.cancelled():
        future.exception()


async def _left(request: Request) -> None:
    """Return once the client closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
