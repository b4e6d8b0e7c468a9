"""Receiving one published file: resumed where it broke off, given up where nothing comes."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from samtrt import assets
from samtrt.errors import DownloadError, MissingExtraError
from samtrt.registry import Download

try:
    import httpx
except ImportError:
    raise MissingExtraError("Downloading checkpoints", "client", "httpx") from None

Report = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes of the whole file."""

ATTEMPTS = 5  # in a row without progress; then the download fails
BACKOFF = 1.0  # seconds before the second attempt, doubled before each further one
PROGRESS = 1 << 20  # bytes after which an attempt counts as progress
TIMEOUT = 30.0  # seconds between two pieces of data
CONNECT = 10.0  # seconds to connect
SLOW_SECONDS = 60.0  # an attempt that brings less than SLOW_BYTES in each of these is given up
SLOW_BYTES = 1 << 16
_UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout)
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class _TryAgainError(Exception):
    """An answer that a next attempt may improve on."""


def connected(client: httpx.Client | None) -> AbstractContextManager[httpx.Client]:
    """Return the user's client, which stays open, or one that follows redirects."""
    if client:
        return nullcontext(client)
    return httpx.Client(timeout=httpx.Timeout(TIMEOUT, connect=CONNECT), follow_redirects=True)


def ask(session: httpx.Client, download: Download) -> Download:
    """Ask the server what the registry does not know: a file's size and, of some servers, its hash.

    Hugging Face tells the sha256 of large files (`X-Linked-ETag`, before it redirects).

    Raises:
        DownloadError: where the server does not answer or tells no size.
    """
    try:
        response = session.head(download.url, headers={"Accept-Encoding": "identity"})
    except httpx.RequestError as error:
        raise _unreachable(download, error) from None
    size = response.headers.get("Content-Length", "")
    if response.status_code != httpx.codes.OK or not size.isdecimal() or len(size) > 15:
        raise DownloadError(
            f"cannot download {download.url}: the server answered {response.status_code} "
            f"{response.reason_phrase} and told no size; a proxy may be in the way, or the file "
            "may have moved"
        )
    tags = (each.headers.get("X-Linked-ETag", "") for each in (*response.history, response))
    hashes = [found[1] for tag in tags if (found := re.fullmatch(r'"?([0-9a-f]{64})"?', tag))]
    return replace(download, size=int(size), sha256=hashes[0] if hashes else None)


def receive(client: httpx.Client, download: Download, part: Path, report: Report) -> None:
    """Request until `part` has all bytes, giving up after `ATTEMPTS` without progress."""
    furthest, failures = bytes_there(part), 0
    began = furthest
    while bytes_there(part) != size_of(download):
        try:
            _request(client, download, part, report)
        except (_TryAgainError, httpx.RequestError) as error:
            if isinstance(error, _UNREACHABLE) and bytes_there(part) == began == furthest:
                raise _unreachable(download, error) from None  # nothing ever came: no passing fault
            failures += 1
            if bytes_there(part) >= furthest + PROGRESS:
                furthest, failures = bytes_there(part), 1
            if failures >= ATTEMPTS:
                reason = str(error) or type(error).__name__
                raise DownloadError(
                    f"cannot download {download.url}: {reason} ({failures} attempts in a row); "
                    "check the network and run the same command again: it resumes"
                ) from None
            pause = BACKOFF * 2 ** (failures - 1)
            reason = str(error) or type(error).__name__
            _say(f"{reason}; attempt {failures + 1} of {ATTEMPTS} in {pause:g} s")
            time.sleep(pause)


def _request(client: httpx.Client, download: Download, part: Path, report: Report) -> None:
    """Ask once for what `part` lacks and append what arrives."""
    if bytes_there(part) > size_of(download):  # left by another version of the file
        discard(part)
    start = bytes_there(part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator := _read_validator(part):
            headers["If-Range"] = validator
    with client.stream("GET", download.url, headers=headers) as response:
        if response.status_code == httpx.codes.OK:  # from the beginning, asked for or not
            start = 0
            _check_size(download, response.headers.get("Content-Length", ""))
            _save_validator(part, response.headers)
        else:
            _check_status(download, response, part, start)
        with part.open("ab" if start else "wb") as file:
            report(start, size_of(download))
            pace = _Pace()
            for data in response.iter_raw():
                pace.check(len(data))
                start += len(data)
                if start > size_of(download):
                    break
                file.write(data)
                report(start, size_of(download))
    if start > size_of(download):
        discard(part)
        _check_size(download, str(start))
    if start < size_of(download):
        raise _TryAgainError(f"the connection closed after {start} of {download.size} bytes")


class _Pace:
    """Notices a server that sends so little that the download would take days."""

    def __init__(self) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def check(self, size: int) -> None:
        """Count what arrived; raise `_TryAgainError` where it was too little for too long."""
        self._bytes += size
        seconds = time.monotonic() - self._since
        if seconds < SLOW_SECONDS:
            return
        if self._bytes < SLOW_BYTES:
            raise _TryAgainError(f"the server sent {self._bytes} bytes in {seconds:.0f} s")
        self._since, self._bytes = time.monotonic(), 0


def _check_status(download: Download, response: httpx.Response, part: Path, start: int) -> None:
    """Let a 206 that continues `part` pass; raise what fits any other answer."""
    status = response.status_code
    if status == httpx.codes.PARTIAL_CONTENT:
        span, _, total = response.headers.get("Content-Range", "").partition("/")
        _check_size(download, total)
        if not span.startswith(f"bytes {start}-"):
            discard(part)
            raise _TryAgainError(f"the server sent '{span}' when asked for bytes from {start}")
    elif status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and start:
        discard(part)
        raise _TryAgainError("the server has no such range")
    elif status in _PASSING:
        raise _TryAgainError(f"the server answered {status} {response.reason_phrase}")
    else:
        raise DownloadError(
            f"cannot download {download.url}: the server answered {status} "
            f"{response.reason_phrase}; a proxy may be in the way, or the file may have moved"
        )


def _check_size(download: Download, announced: str) -> None:
    # No whole number in ASCII of 20 digits or more is a size, and Python refuses to read thousands.
    if announced.isdecimal() and (len(announced) > 20 or int(announced) != download.size):
        raise DownloadError(
            f"{download.url} is {announced[:24]} bytes long, expected {download.size}; "
            "something else answers in the server's place, or the published file has changed"
        )


def _save_validator(part: Path, headers: httpx.Headers) -> None:
    """Keep what tells a next request whether the server still has the same file."""
    etag = headers.get("ETag", "")
    # RFC 9110, 13.1.5: If-Range takes no weak ETag.
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    if validator.isascii() and validator.isprintable() and validator:
        _validator_file(part).write_text(validator, encoding="ascii")
    else:
        _validator_file(part).unlink(missing_ok=True)


def _read_validator(part: Path) -> str:
    """Return what was kept of the server's answer; empty where it is none, or damaged."""
    file = _validator_file(part)
    text = file.read_text(encoding="latin-1") if file.is_file() else ""
    return text if text.isascii() and text.isprintable() else ""


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.validator")


def keep(part: Path, target: Path) -> None:
    """Give a whole file its final name."""
    part.replace(target)
    _validator_file(part).unlink(missing_ok=True)


def discard(part: Path) -> None:
    """Remove what has arrived."""
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def size_of(download: Download) -> int:
    """Return a download's size, which is known by now."""
    assert download.size is not None
    return download.size


def bytes_there(path: Path) -> int:
    """Return how many bytes of a file have arrived."""
    return path.stat().st_size if path.exists() else 0


def _unreachable(download: Download, error: httpx.RequestError) -> DownloadError:
    """Say that a server cannot be reached, and what works without it."""
    reason, small = str(error) or type(error).__name__, assets.SMALL_MODEL
    return DownloadError(
        f"cannot download {download.url}: {reason}; check the network and HTTPS_PROXY, and run the "
        "same command again. Without a network: put the file there by other means and give its "
        f"path, or try the small checkpoint, which is installed: samtrt export {small} -o {small}"
    )


def _say(line: str) -> None:
    """Tell whoever watches why nothing moves."""
    print(f"samtrt: {line}", file=sys.stderr, flush=True)
