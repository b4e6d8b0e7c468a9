"""Downloading published checkpoints into a cache: resumed, checked, and never half there.

A file gets its final name only once its size and sha256 are those of the registry. The hash is
taken again whenever a cached file is used: seconds even for the largest checkpoint, little beside
loading or exporting it, and the one test that notices a damaged disk or an edited file.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from samtrt import assets
from samtrt.checkpoints import hub
from samtrt.checkpoints.transfer import (
    Report,
    ask,
    bytes_there,
    connected,
    discard,
    keep,
    receive,
    size_of,
)
from samtrt.errors import CheckpointError, DownloadError
from samtrt.files import cache_dir, sha256_of, write_atomic
from samtrt.registry import MODELS, Download, get_spec

if TYPE_CHECKING:
    import httpx


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
        DownloadError: as of `hub.fetch`.
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


def _fetch_into(
    target: Path, download: Download, progress: Report | None, client: httpx.Client | None
) -> None:
    part = target.with_name(f"{target.name}.part")
    with connected(client) as session, _reporter(progress, target.name) as report:
        unseen = download.sha256 is None
        if unseen:
            download = ask(session, download)
        missing, free = size_of(download) - bytes_there(part), shutil.disk_usage(part.parent).free
        if missing > free:
            raise DownloadError(
                f"no room in {part.parent}: {missing} bytes to download, {free} free; "
                "make room or choose another place with SAMTRT_CACHE"
            )
        receive(session, download, part, report)
    if unseen and not _begins_as_weights(part):
        discard(part)
        raise DownloadError(
            f"{download.url} answered with {download.size} bytes that are no checkpoint, such as a "
            "network's login page; the download was removed, try again from another network"
        )
    found = sha256_of(part)
    if unseen and found == (download.sha256 or found):
        with write_atomic(_note_of(target)) as note:
            note.write_text(json.dumps({"size": download.size, "sha256": found}), "ascii")
    elif found != download.sha256:
        discard(part)
        raise DownloadError(
            f"{download.url} has sha256 {found}, expected {download.sha256}; the download was "
            "removed, try again (if it stays so, the published file has changed: do not use it)"
        )
    keep(part, target)


def _begins_as_weights(path: Path) -> bool:
    """Tell whether a file is of a format that checkpoints have: PyTorch's two, or safetensors."""
    if not bytes_there(path):
        return False
    with path.open("rb") as file:
        head = file.read(9)
    return head.startswith((b"PK\x03\x04", b"\x80")) or head[8:] == b"{"


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
