"""One of a server's replicas: the whole application with engines of its own, and images that come
back. It knows nothing of Ray.

Images that clients upload are kept at a place that all replicas reach. Whichever replica gets a
request about an image that it does not hold encodes it anew from there, so that an image outlives
the replica that encoded it.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from samtrt import tracing
from samtrt.cluster.places import Place
from samtrt.server.app import create_app
from samtrt.server.routes import IMAGE_ID
from samtrt.server.security import UPLOAD_PATH
from samtrt.server.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from samtrt.predictor import Predictor

Headers = list[tuple[bytes, bytes]]


class Engines(Protocol):
    """What opens the model."""

    @property
    def directory(self) -> Path:
        """The model directory."""

    def load(self) -> Predictor:
        """Open both engines."""


@dataclass(frozen=True)
class Call:
    """An HTTP request.

    Attributes:
        method: Such as "POST".
        target: Path and query, as they came.
        headers: As they came.
        body: Whole.
        image_id: The image that it is about; of an upload, the id that the image is to have.
    """

    method: str
    target: str
    headers: Headers
    body: bytes = b""
    image_id: str | None = None


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""


class Replica:
    """Answers calls in any order, many at a time, on one event loop."""

    async def __init__(self, engines: Engines, settings: Settings, images: str) -> None:  # type: ignore[misc]
        """Open the engines, and the place of images.

        Raises:
            SamtrtError: where they cannot be opened here.
        """
        tracing.start("replica")
        self._images = Place(images)
        predictor = await asyncio.to_thread(engines.load)
        self._app = create_app(predictor, settings, engines.directory)
        self._store = self._app.state.scheduler.store
        self._life = self._app.router.lifespan_context(self._app)
        await self._life.__aenter__()
        self._encoding: dict[str, asyncio.Lock] = {}

    async def answer(self, call: Call) -> Reply:
        """Answer a call as `samtrt serve` would."""
        if call.image_id is None:
            return await self._send(call)
        if call.target.partition("?")[0] == UPLOAD_PATH:
            return await self._upload(call)
        if not await asyncio.to_thread(self._images.exists, _name(call.image_id)):
            self._store.discard(call.image_id)  # another replica was told to forget it
            return await self._send(call)
        if call.method == "DELETE":
            return await self._forget(call)
        if not self._store.holds(call.image_id):
            failed = await self._encode_anew(call, call.image_id)
            if failed is not None:
                return failed
        return await self._send(call)

    async def _upload(self, call: Call) -> Reply:
        assert call.image_id is not None
        reply = await self._send(call)
        if reply.status == 201:
            kind = dict(call.headers).get(b"content-type", b"")
            content = kind + b"\n" + call.body
            try:
                await asyncio.to_thread(self._images.write, _name(call.image_id), content)
            except BaseException:
                self._store.discard(call.image_id)  # it would not come back
                raise
        return reply

    async def _forget(self, call: Call) -> Reply:
        assert call.image_id is not None
        if not self._store.holds(call.image_id):
            # The application checks the token before it says that it does not have the image.
            reply = await self._send(call)
            if reply.status not in (404, 410):
                return reply
            reply = Reply(204, [one for one in reply.headers if not one[0].startswith(b"content-")])
        else:
            reply = await self._send(call)
        if reply.status == 204:
            await asyncio.to_thread(self._images.remove, _name(call.image_id))
        return reply

    async def _encode_anew(self, call: Call, image_id: str) -> Reply | None:
        """Bring an image back; return the answer to the call where that fails."""
        lock = self._encoding.setdefault(image_id, asyncio.Lock())
        try:
            async with lock:
                if self._store.holds(image_id):
                    return None
                content = await asyncio.to_thread(self._images.read, _name(image_id))
                if content is None:  # removed meanwhile
                    return None
                kind, _, body = content.partition(b"\n")
                headers = [one for one in call.headers if one[0] not in (b"content-type",)]
                headers = [one for one in headers if one[0] != b"content-length"]
                upload = Call(
                    "POST", UPLOAD_PATH, [*headers, (b"content-type", kind)], body, image_id
                )
                reply = await self._send(upload)
                return None if reply.status == 201 else reply
        finally:
            if not lock.locked():
                self._encoding.pop(image_id, None)

    async def _send(self, call: Call) -> Reply:
        transport = httpx.ASGITransport(
            _named(self._app, call.image_id), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, timeout=None) as client:
            response = await client.request(
                call.method,
                "http://replica" + call.target,
                headers=[one for one in call.headers if one[0] not in _OF_THE_CONNECTION],
                content=call.body,
            )
        return Reply(response.status_code, response.headers.raw, response.content)

    def held(self) -> list[str]:
        """Return the ids of the images whose embeddings are here."""
        ids: list[str] = self._store.ids()
        return ids

    async def close(self) -> None:
        """End work and free the engines."""
        await self._life.__aexit__(None, None, None)


_OF_THE_CONNECTION = (b"content-length", b"transfer-encoding", b"connection", b"expect")


def _named(app: ASGIApp, image_id: str | None) -> Any:
    """Tell the application which id an upload gets."""

    async def with_id(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, IMAGE_ID: image_id}, receive, send)

    return with_id


def _name(image_id: str) -> str:
    """Return a stored image's name, from which its id, which opens it, cannot be told."""
    digest = hashlib.sha256(image_id.encode()).hexdigest()
    return f"{digest[:2]}/{digest}"
