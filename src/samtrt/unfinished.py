"""Files and directories that are not finished yet; the next process removes those of dead ones.

Each has a name apart and is locked (`flock`) from its making on, and the system frees the lock
with the process. What has such a name, is this user's and can be locked was left by a process that
was killed. Where the system or the file system has no such locks, nothing is removed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = re.compile(r"\.samtrt-[0-9a-f]{16}(\.[^.]{0,15})?")
_swept: set[Path] = set()


@contextmanager
def new_file(place: Path, suffix: str = "") -> Iterator[Path]:
    """Yield an empty file in `place`, with the permissions that any new file gets.

    `tempfile` gives its files to their owner alone, and the mask that says what others get cannot
    be read without changing it for every thread of the process. It is removed with the end of the
    block, unless it was renamed.

    Raises:
        OSError: where the place cannot be written.
    """

    def make(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))

    with _made(place, suffix[:16], make) as path:
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def new_directory(place: Path) -> Iterator[Path]:
    """Yield an empty directory in `place`, for this user alone; it is removed with all in it.

    Raises:
        OSError: where the place cannot be written.
    """
    with _made(place, "", lambda path: path.mkdir(mode=0o700)) as path:
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def remove_dead(place: Path) -> list[Path]:
    """Remove what killed processes left in a directory; return it. What lives stays."""
    try:
        found = sorted(path for path in place.iterdir() if _NAME.fullmatch(path.name))
    except OSError:
        return []
    return [path for path in found if _remove_dead(path)]


@contextmanager
def _made(place: Path, suffix: str, make: Callable[[Path], None]) -> Iterator[Path]:
    if (where := place.absolute()) not in _swept:  # once a process: folders may hold a million
        _swept.add(where)
        remove_dead(place)
    while True:
        path = place / f".samtrt-{secrets.token_hex(8)}{suffix}"
        try:
            make(path)
        except FileExistsError:
            continue
        try:
            handle = _lock(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process took it for a dead one's, and removes it
        try:
            yield path
        finally:
            if handle is not None:
                os.close(handle)
        return


def _lock(path: Path) -> int | None:
    """Return a handle that holds the lock of what is there; None where there are no locks.

    Raises:
        BlockingIOError: where another process holds it.
        FileNotFoundError: where it was removed meanwhile.
    """
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), os.lstat(path)):
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle


def _remove_dead(path: Path) -> bool:
    with suppress(OSError):
        if hasattr(os, "geteuid") and path.lstat().st_uid != os.geteuid():
            return False
        handle = _lock(path)
        if handle is None:
            return False
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            return True
        finally:
            os.close(handle)
    return False
