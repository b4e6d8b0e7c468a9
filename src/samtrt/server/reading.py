"""Reading uploads, and waiting for work no longer than the client does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from samtrt.server.errors import ApiError, ClientLeftError

T = TypeVar("T")


async def read_upload(request: Request, seconds: float) -> bytes:
    """Return the bytes of an uploaded file, from a form or from the body itself.

    Raises:
        ApiError: 408 where it takes longer than `seconds`, 415 and 422 where it is no upload.
        ClientLeftError: where the client stops sending.
    """
    try:
        return await asyncio.wait_for(_read_upload(request), seconds)
    except ClientDisconnect:
        raise ClientLeftError from None
    except TimeoutError:
        raise ApiError(408, f"the upload took longer than {seconds:g} s", "slow_upload") from None


async def _read_upload(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise ApiError(422, "the form has no file in its field 'file'")
            return await file.read()
    if kind and kind != "application/octet-stream" and not kind.startswith("image/"):
        raise ApiError(
            415,
            "send an image's bytes as image/* or application/octet-stream, or a form with the "
            "field 'file'",
        )
    return await request.body()


async def for_client(request: Request, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Wait for `work`; stop it when the time is up or the client is gone.

    Raises:
        ApiError: 504 where it takes longer than `seconds`.
        ClientLeftError: where the client closes the connection first.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(request))
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


async def _left(request: Request) -> None:
    """Return once the client closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
