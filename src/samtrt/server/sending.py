"""Answers in slices: a client that takes them slowly holds little of the server's memory."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response
from starlette.types import Receive, Scope, Send

from samtrt.server.budget import Bodies

SLICE = 1 << 16


class SlicedResponse(Response):
    """Bytes that are there already, handed to the connection as fast as it takes them."""

    def __init__(
        self,
        content: bytes | memoryview,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        """Take the bytes.

        Args:
            content: The body.
            media_type: Its type.
            headers: Further headers.
            bodies: Where the bytes are counted until they are sent; None where they are held
                anyway.
        """
        super().__init__(b"", media_type=media_type, headers=dict(headers or {}))
        self._content = memoryview(content).cast("B")
        self._bodies = bodies
        self.headers["content-length"] = str(len(self._content))

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        if self._bodies is None:
            await self._send(send)
            return
        with self._bodies.account() as account:
            account.add(len(self._content))
            await self._send(send)

    async def _send(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for start in range(0, len(self._content), SLICE):
            part = bytes(self._content[start : start + SLICE])
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
