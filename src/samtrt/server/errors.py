"""Every answer that is not a success: one JSON form, one line that says what to do."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from samtrt.errors import ImageError, PromptError, SamtrtError

log = logging.getLogger("samtrt.server")

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "slow_upload",
    409: "tracking",
    410: "image_evicted",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "busy",
    500: "internal",
    503: "not_ready",
    504: "timeout",
    507: "disk_full",
}


class ApiError(SamtrtError):
    """An error with the HTTP status that it is answered with."""

    def __init__(
        self, status: int, message: str, code: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or _CODES.get(status, "error")
        self.retry_after = retry_after


class ClientLeftError(Exception):
    """The client closed the connection; nobody reads the answer."""


def error_body(code: str, message: str) -> dict[str, Any]:
    # A message may quote the request, and half a surrogate pair cannot be sent.
    text = message[:300].encode("utf-8", "replace").decode()
    return {"error": {"code": code, "message": text}}


def error_response(error: ApiError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error.code, str(error)), error.status, headers)


def told(error: SamtrtError) -> ApiError:
    """Return what a client is told of an error: what it can do, or that the log says more."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptError | ImageError):
        return ApiError(422, str(error))
    log.error("request failed: %s", error)
    message = "the server could not run this request; its log says why"
    return ApiError(500, message, "backend_failed")


def told_of_bug(what: str) -> ApiError:
    """Return what a client is told of an exception that nobody expected. The caller logs it."""
    incident = secrets.token_hex(4)
    log.error("internal error %s: %s", incident, what)
    message = f"internal error {incident}: please report it with the trace in the server's log"
    return ApiError(500, message)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every exception in the one form. The client sees no trace and no path."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(ClientLeftError)
    async def client_left(_: Request, __: ClientLeftError) -> JSONResponse:
        return JSONResponse(error_body("client_left", "the client left"), 499)

    @app.exception_handler(SamtrtError)
    async def samtrt_error(_: Request, error: SamtrtError) -> JSONResponse:
        return error_response(told(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(ApiError(422, _first_problem(error)))  # of path and query: short

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "error")
        body = error_body(code, str(error.detail))
        return JSONResponse(body, error.status_code, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def bug(request: Request, __: Exception) -> JSONResponse:
        # Starlette logs the trace itself after this answer.
        route = getattr(request.scope.get("route"), "path", "other")
        return error_response(told_of_bug(f"{request.method} {route}"))


def _first_problem(error: RequestValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{where}: {first['msg']}" if where else str(first["msg"])
