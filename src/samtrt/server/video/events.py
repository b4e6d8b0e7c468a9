"""Server-sent events: answers that go on as long as there is something to tell and who listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from fastapi import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from samtrt.server.connections import ENDLESS

Events = AsyncGenerator[tuple[str, BaseModel], None]
"""Names and data."""


class EventStream(Response):
    """Sends events as fast as the client takes them; where it leaves, the generator is closed."""

    media_type = "text/event-stream"

    def __init__(self, events: Events, heartbeat: float) -> None:
        """Take the generator.

        Args:
            events: What is sent.
            heartbeat: Seconds without an event after which a comment is sent, so that neither
                client nor proxy gives up.
        """
        # Proxies are told not to collect what comes.
        super().__init__(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._events, self._heartbeat = events, heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ENDLESS] = True
        left = asyncio.ensure_future(_left(receive))
        step: asyncio.Future[tuple[str, BaseModel]] | None = None
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            while True:
                step = asyncio.ensure_future(anext(self._events))
                while not step.done():
                    done, _ = await asyncio.wait(
                        {step, left},
                        timeout=self._heartbeat,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if left.done():
                        return
                    if not done:
                        await _send(send, b": still at work\n\n")
                try:
                    name, data = step.result()
                except StopAsyncIteration:
                    break
                text = data.model_dump_json()
                await _send(send, f"event: {name}\ndata: {text}\n\n".encode())
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            left.cancel()
            if step is not None and not step.done():
                step.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await step
            await self._events.aclose()


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    """Return once the client closed the connection. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
