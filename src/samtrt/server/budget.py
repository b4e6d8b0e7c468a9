"""Memory that is spoken for before it is allocated."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from samtrt.server.errors import ApiError


class Budget:
    """A number of bytes that work in progress shares. Lives in one event loop.

    Who finds too little waits, first come first served, so that large work is not passed over.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """Wait for `amount` bytes and hold them for the block; more than all count as all."""
        amount = min(amount, self.total)
        if self._waiting or amount > self._free:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                # The turn may have come at the same moment.
                self._give(0 if turn.cancelled() else amount)
                raise
        else:
            self._free -= amount
        try:
            yield
        finally:
            self._give(amount)

    def _give(self, amount: int) -> None:
        """Take bytes back, and let those go on whose turn it is."""
        self._free += amount
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.cancelled():
                if amount > self._free:
                    return
                self._free -= amount
                turn.set_result(None)
            self._waiting.popleft()


class Bodies:
    """The bytes of all request bodies that the server holds. Lives in one event loop."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0

    @contextmanager
    def account(self) -> Iterator[Account]:
        """Count one body for as long as the block lasts."""
        account = Account(self)
        try:
            yield account
        finally:
            self._held -= account.held


class Account:
    """What one body holds of all."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.held = 0

    def add(self, amount: int) -> None:
        """Count more bytes.

        Raises:
            ApiError: 429 where the server holds too many bytes of other requests.
        """
        if self.held + amount > 0 and self._bodies._held + amount > self._bodies._total:
            message = "the server holds as many bytes of requests as it may: try again later"
            raise ApiError(429, message, "busy", retry_after=2)
        self.held += amount
        self._bodies._held += amount
