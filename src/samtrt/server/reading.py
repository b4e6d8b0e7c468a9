"""Reading what clients send: bodies within limits of time and memory, JSON off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from samtrt.server.budget import Account
from samtrt.server.errors import ApiError, ClientLeftError
from samtrt.server.settings import Settings

Model = TypeVar("Model", bound=BaseModel)


def check_upload_kind(request: Request) -> str:
    """Return an upload's content type; refuse one that is no image (415) before it is read."""
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    known = ("", "application/octet-stream", "multipart/form-data")
    if kind not in known and not kind.startswith("image/"):
        raise ApiError(
            415,
            "send an image's bytes as image/* or application/octet-stream, or a form with the "
            "field 'file'",
        )
    return content_type


def check_json_kind(request: Request) -> None:
    """Refuse a body that is not said to be JSON: it is what other sites' forms can send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and "+json" in kind):
        raise ApiError(415, "send JSON, with the header Content-Type: application/json")


async def read_body(
    request: Request, settings: Settings, account: Account, limit: int | None = None
) -> bytes:
    """Return a request's body.

    Args:
        request: Whose body.
        settings: How long it may take.
        account: Where its bytes are counted as they arrive.
        limit: Of its bytes; None for that of `Guard`.

    Raises:
        ApiError: 408 where it takes too long, 413 where it is too large, 429 where the server
            holds too many bytes.
        ClientLeftError: where the client stops sending.
    """
    parts = []
    async for part in body_parts(request, settings.request_seconds, settings):
        account.add(len(part))
        parts.append(part)
        if limit is not None and account.held > limit:
            raise ApiError(413, f"the request is larger than the limit of {limit:,} bytes")
    return b"".join(parts)


async def body_parts(request: Request, seconds: float, settings: Settings) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes.

    Args:
        request: Whose body.
        seconds: How long all of it may take.
        settings: How long it may pause.

    Raises:
        ApiError: 408 where it takes too long.
        ClientLeftError: where the client stops sending.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        left = min(settings.stall_seconds, end - loop.time())
        try:
            message = await asyncio.wait_for(request.receive(), left)
        except TimeoutError:  # two classes before Python 3.11
            raise ApiError(
                408,
                f"the request did not arrive: it may take {seconds:g} s, and "
                f"{settings.stall_seconds:g} s without a byte",
                "slow_upload",
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def parse_json(model: type[Model], body: bytes, settings: Settings) -> Model:
    """Parse and check a JSON body. Takes time by its size: not for the event loop.

    Raises:
        ApiError: 422 with the first thing that is wrong.
    """
    # Before anything is made of them: every value but the first of its list follows a comma, and
    # names and texts stand between quotes. Right or wrong, each becomes an object.
    for what, count, most in (
        ("values", body.count(b",") + 1, settings.max_json_values),
        ("names and texts", body.count(b'"') // 2, settings.max_json_texts),
    ):
        if count > most:
            raise ApiError(422, f"the request has {count:,} {what}; the server takes {most:,}")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ApiError(422, _first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
