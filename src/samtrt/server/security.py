"""What every request passes before it reaches a route, and what every answer carries."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samtrt.server.errors import ApiError, error_response
from samtrt.server.settings import Settings

UPLOAD_PATH = "/v1/images"
VIDEOS_PATH = "/v1/videos"
_GUARDED = ("/v1/", "/metrics")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

SECURITY_HEADERS = {
    # 'wasm-unsafe-eval' lets WebAssembly be compiled and nothing else; blob: is where
    # onnxruntime-web starts its threads, and what the page's own pictures are.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
        "style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # These two isolate the page, which lets WebAssembly use threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: host, origin, token and body size, in that order, then security headers."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            limited = admit(scope, receive, self._settings)
        except ApiError as error:
            await error_response(error)(scope, receive, send_secured)
            return
        await self._app(scope, limited, send_secured)


def admit(scope: Scope, receive: Receive, settings: Settings) -> Receive:
    """Check a request's head; return what receives its body, up to its limit.

    Raises:
        ApiError: where it is refused.
    """
    headers = Headers(scope=scope)
    uploads = {UPLOAD_PATH: settings.max_upload_bytes, VIDEOS_PATH: settings.max_video_bytes}
    limit = uploads.get(scope["path"], settings.max_json_bytes)
    check_host(headers, settings.allowed_hosts)
    if scope["method"] not in _SAFE_METHODS:
        check_origin(headers, settings.cors_origins)
    if scope["path"].startswith(_GUARDED):
        check_token(headers, settings.token)
    _check_length(headers, limit)
    return _limited(receive, limit)


def check_host(headers: Mapping[str, str], allowed: frozenset[str] | None) -> None:
    """Refuse requests addressed to a name that is not ours: DNS rebinding."""
    if allowed is None:
        return
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        host = None
    if host not in allowed:
        raise ApiError(403, "this server answers on its loopback name only")


def check_origin(headers: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    """Refuse writes that another site's page sends through the user's browser."""
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return
    if origin.partition("://")[2] != headers.get("host"):
        raise ApiError(403, "pages of other origins may not use this server; see --cors-origin")


def check_token(headers: Mapping[str, str], token: str | None) -> None:
    """Compare in constant time, so that timing tells nothing about the token."""
    if token is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise ApiError(401, "send the server's token as: Authorization: Bearer TOKEN")


def _check_length(headers: Mapping[str, str], limit: int) -> None:
    length = headers.get("content-length", "")
    # By its digits first: Python refuses to read numbers of thousands.
    if length.isdecimal() and (len(length.lstrip("0")) > 18 or int(length) > limit):
        raise ApiError(413, _too_large(limit))


def _limited(receive: Receive, limit: int) -> Receive:
    """Count a body that comes without a length, and stop it at the limit."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            # Not an ApiError: FastAPI turns all but HTTPException into 400 while it reads JSON.
            raise HTTPException(413, _too_large(limit))
        return message

    return counted


def _too_large(limit: int) -> str:
    return f"the request is larger than the limit of {limit:,} bytes"
