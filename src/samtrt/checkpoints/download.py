"""Downloading published checkpoints into a cache: resumed, checked, and never half there.

A file gets its final name only once its size and sha256 are those of the registry. The hash is
taken again whenever a cached file is used: seconds even for the largest checkpoint, little beside
loading or exporting it, and the one test that notices a damaged disk or an edited file.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock

from samtrt import assets
from samtrt.checkpoints import hub
from samtrt.errors import CheckpointError, DownloadError, MissingExtraError
from samtrt.files import cache_dir, sha256_of, write_atomic
from samtrt.registry import MODELS, Download, get_spec

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


def fetch(name: str, *, progress: Report | None = None, client: httpx.Client | None = None) -> Path:
    """Return the cached checkpoint of the model `name`, downloading what is missing of it.

    The small checkpoint is installed, not downloaded.

    Processes that fetch the same file at once wait for the first one.

    Args:
        name: A registry name with a published checkpoint, or a name on the Hub.
        progress: Told about every piece of data; by default a progress bar on a terminal.
        client: For a proxy or certificates of one's own; by default one that follows redirects.

    Raises:
        CheckpointError: where the name is unknown or nothing is published under it.
        DownloadError: where the server, the network or the disk fails, or the bytes are wrong.
    """
    if name not in MODELS and (on_hub := hub.parse(name)):
        return hub.fetch(on_hub)
    if name == assets.SMALL_MODEL:
        return assets.SMALL_CHECKPOINT
    download = _download_of(name)
    target = _target(download)
    try:
        if _is_intact(target, download):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not _is_intact(target, download):  # another process may just have finished
                target.unlink(missing_ok=True)
                _fetch_into(target, _noted(target, download), progress, client)
    except OSError as error:
        raise DownloadError(
            f"cannot write {target}: {error.strerror or error}; make room or choose another place "
            "with SAMTRT_CACHE (what has arrived is kept and resumed)"
        ) from None
    return target


def resolve(checkpoint: str) -> Path:
    """Return the path that the user means by a path or a model's name.

    Of the models here nothing is downloaded: `fetch` does that, and the small checkpoint is
    installed. What is called by its name on the Hub is, as `hub.fetch` says.

    Raises:
        CheckpointError: where it is neither, or the model is not in the cache yet.
        DownloadError, MissingExtraError: as of `hub.fetch`.
    """
    path = Path(checkpoint)
    if path.exists():
        return path
    if checkpoint not in MODELS:
        if name := hub.parse(checkpoint):
            return hub.fetch(name)
        raise CheckpointError(
            f"there is no file or directory '{checkpoint}', and no model has that name; "
            f"known models: {', '.join(MODELS)}"
        )
    if checkpoint == assets.SMALL_MODEL:
        return assets.SMALL_CHECKPOINT
    download = _download_of(checkpoint)
    target = _target(download)
    try:
        if _is_intact(target, download):
            return target
    except OSError as error:
        raise CheckpointError(f"cannot read {target}: {error.strerror or error}") from None
    state = "is damaged in the cache" if target.exists() else "is not downloaded yet"
    raise CheckpointError(f"{checkpoint} {state}; run: samtrt fetch {checkpoint}")


def _download_of(name: str) -> Download:
    download = get_spec(name).download
    if download is None:
        published = ", ".join(spec.name for spec in MODELS.values() if spec.download)
        raise CheckpointError(
            f"no checkpoint is published for {name} (there is one for {published}, and "
            f"{assets.SMALL_MODEL} is installed); give a file instead"
        )
    return download


def _target(download: Download) -> Path:
    return cache_dir() / PurePosixPath(urlsplit(download.url).path).name


def _is_intact(path: Path, download: Download) -> bool:
    """Tell whether `path` is the published file, byte for byte."""
    known = _noted(path, download)
    return path.is_file() and path.stat().st_size == known.size and sha256_of(path) == known.sha256


def _noted(target: Path, download: Download) -> Download:
    """Add what was noted of a file whose size and hash the registry does not know."""
    if download.sha256 is not None:
        return download
    try:
        said = json.loads(_note_of(target).read_text(encoding="ascii"))
        return replace(download, size=int(said["size"]), sha256=str(said["sha256"]))
    except (OSError, ValueError, LookupError, TypeError):
        return download


def _note_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _asked(session: httpx.Client, download: Download) -> Download:
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


def _fetch_into(
    target: Path, download: Download, progress: Report | None, client: httpx.Client | None
) -> None:
    part = target.with_name(f"{target.name}.part")
    opened = (
        nullcontext(client)
        if client
        else httpx.Client(timeout=httpx.Timeout(TIMEOUT, connect=CONNECT), follow_redirects=True)
    )
    with opened as session, _reporter(progress, target.name) as report:
        unseen = download.sha256 is None
        if unseen:
            download = _asked(session, download)
        missing, free = size_of(download) - _size(part), shutil.disk_usage(part.parent).free
        if missing > free:
            raise DownloadError(
                f"no room in {part.parent}: {missing} bytes to download, {free} free; "
                "make room or choose another place with SAMTRT_CACHE"
            )
        _receive_all(session, download, part, report)
    found = sha256_of(part)
    if unseen and found == (download.sha256 or found):
        with write_atomic(_note_of(target)) as note:
            note.write_text(json.dumps({"size": download.size, "sha256": found}), "ascii")
    elif found != download.sha256:
        _discard(part)
        raise DownloadError(
            f"{download.url} has sha256 {found}, expected {download.sha256}; the download was "
            "removed, try again (if it stays so, the published file has changed: do not use it)"
        )
    part.replace(target)
    _validator_file(part).unlink(missing_ok=True)


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


@contextmanager
def _reporter(progress: Report | None, label: str) -> Iterator[Report]:
    if progress is not None or not sys.stderr.isatty():
        yield progress or (lambda _done, _total: None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _receive_all(client: httpx.Client, download: Download, part: Path, report: Report) -> None:
    """Request until `part` has all bytes, giving up after `ATTEMPTS` without progress."""
    furthest, failures = _size(part), 0
    began = furthest
    while _size(part) != size_of(download):
        try:
            _request(client, download, part, report)
        except (_TryAgainError, httpx.RequestError) as error:
            if isinstance(error, _UNREACHABLE) and _size(part) == began == furthest:
                raise _unreachable(download, error) from None  # nothing ever came: no passing fault
            failures += 1
            if _size(part) >= furthest + PROGRESS:
                furthest, failures = _size(part), 1
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
    if _size(part) > size_of(download):  # left by another version of the file
        _discard(part)
    start = _size(part)
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
        _discard(part)
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
            _discard(part)
            raise _TryAgainError(f"the server sent '{span}' when asked for bytes from {start}")
    elif status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and start:
        _discard(part)
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


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def size_of(download: Download) -> int:
    """Return a download's size, which is known by now."""
    assert download.size is not None
    return download.size


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
