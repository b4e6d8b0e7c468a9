"""The page's files: built by `make web`, shipped in the package, the same for everyone."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from samtrt.assets import DEMO_PHOTOGRAPH
from samtrt.errors import MissingExtraError
from samtrt.server.errors import ApiError
from samtrt.server.sending import SLICE

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}

router = APIRouter(include_in_schema=False)


def is_installed() -> bool:
    """Tell whether the page's files are here."""
    return find_spec("samtrt_page") is not None


@lru_cache
def _files() -> dict[str, Path]:
    """Map each URL path below /static to its file. Requests choose among these alone.

    Without the extra `page` there are none.
    """
    if not is_installed():
        return {}
    from samtrt_page import STATIC

    return {
        str(path.relative_to(STATIC).as_posix()).removesuffix(".gz"): path
        for path in sorted(STATIC.rglob("*"))
        if path.is_file()
    }


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    return _send(request, "index.html")


@router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
async def static(request: Request, name: str) -> Response:
    return _send(request, name)


@router.api_route("/sample.jpg", methods=["GET", "HEAD"])
async def sample() -> Response:
    """The picture behind the page's "try the sample"."""
    return FileResponse(
        DEMO_PHOTOGRAPH, media_type="image/jpeg", headers={"Cache-Control": "no-cache"}
    )


def _send(request: Request, name: str) -> Response:
    path = _files().get(name)
    if path is None:
        missing = MissingExtraError("The page", "page", "samtrt-page")
        raise ApiError(404, "there is no such file" if _files() else str(missing))
    # Names under ort/ hold their version, so they never change; the rest is asked for again.
    fresh = "public, max-age=31536000, immutable" if name.startswith("ort/") else "no-cache"
    headers = {"Cache-Control": fresh}
    media_type = _TYPES.get(Path(name).suffix, "application/octet-stream")
    headers["Vary"] = "Accept-Encoding"
    packs = _takes_gzip(request.headers.get("accept-encoding", ""))
    if path.suffix != ".gz":
        if not packs:
            return FileResponse(path, media_type=media_type, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(_packed(path), media_type=media_type, headers=headers)
    # WebAssembly is kept compressed: a quarter of the size in the package and on the wire.
    if packs:
        headers["Content-Encoding"] = "gzip"
        return FileResponse(path, media_type=media_type, headers=headers)
    # No browser comes here. Starlette reads such a generator in threads, as fast as it is sent.
    content = iter(()) if request.method == "HEAD" else _unpacked(path)
    return StreamingResponse(content, media_type=media_type, headers=headers)


@lru_cache
def _packed(path: Path) -> bytes:
    """Compress one of the page's texts, which are small and stay as they are."""
    return gzip.compress(path.read_bytes(), mtime=0)


def _takes_gzip(accepted: str) -> bool:
    """Read `Accept-Encoding`: what has the weight 0 is refused."""
    weights = {}
    for part in accepted.lower().replace(" ", "").split(","):
        coding, _, weight = part.partition(";")
        weights[coding] = weight
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return not re.fullmatch(r"q=0(\.0*)?", weight)


def _unpacked(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        yield from iter(partial(file.read, SLICE), b"")
