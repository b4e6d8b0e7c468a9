"""Where videos come from: uploads, in a folder of the server's own, and a folder that is served."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from fastapi import Request

from samtrt.errors import OutputError
from samtrt.server.errors import ApiError
from samtrt.server.reading import body_parts
from samtrt.server.settings import Settings
from samtrt.unfinished import new_directory, remove_dead

SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
        *(".3gp", ".ogv", ".flv", ".wmv", ".asf", ".mxf", ".gif", ".ivf", ".y4m"),
    )
)
MOST_LISTED = 10_000


class Uploads:
    """Files that clients have sent. What a killed server has left is removed by the next."""

    def __init__(self, parent: Path | None) -> None:
        """Make the folder, for this user alone.

        Raises:
            OutputError: where it cannot be made.
        """
        place = Path(tempfile.gettempdir()) if parent is None else parent
        self._held = ExitStack()
        try:
            place.mkdir(parents=True, exist_ok=True)
            remove_dead(place)
            self._folder = self._held.enter_context(new_directory(place))
        except OSError as error:
            raise OutputError(f"cannot keep videos in {place}: {error.strerror}") from None

    async def receive(self, request: Request, settings: Settings) -> Path:
        """Write a request's body to a file as it comes.

        Raises:
            ApiError: 408 where it takes too long, 507 where the disk is full.
            ClientLeftError: where the client stops sending. No file is left then.
        """
        path = self._folder / secrets.token_hex(8)
        try:
            with path.open("xb") as file:
                async for part in body_parts(request, settings.video_upload_seconds, settings):
                    await asyncio.to_thread(file.write, part)
            if not path.stat().st_size:
                raise ApiError(422, "the request has no video: its body is empty")
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ApiError(
                507, f"the server has no room for the video: {error.strerror}", "disk_full"
            ) from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def remove(self, path: Path) -> None:
        """Remove a file of this folder; one of another stays."""
        if path.parent == self._folder:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        self._held.close()


def listed(folder: Path) -> dict[str, Path]:
    """Return the videos in a folder and those below, by their names in it; links are not followed.

    Names are looked up here: none that a client sends becomes a path.
    """
    found = {}
    for path in islice(_files_of(folder), MOST_LISTED):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() not in SUFFIXES or not _is_text(name):
            continue
        if path.is_file() and not path.is_symlink():
            found[name] = path
    return dict(sorted(found.items()))


def _is_text(name: str) -> bool:
    """Whether a name can be sent: one whose bytes are no UTF-8 could not be asked for."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _files_of(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def named(folder: Path | None, name: str) -> Path:
    """Return the video of a name.

    Raises:
        ApiError: 404 where there is none.
    """
    path = None if folder is None else listed(folder).get(name)
    if path is None:
        message = (
            "this server has no folder of videos: send the video, or start it with --videos DIR"
            if folder is None
            else "there is no video of this name in the server's folder: see GET /v1/videos"
        )
        raise ApiError(404, message, "video_unknown")
    return path
