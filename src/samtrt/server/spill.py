"""Embeddings on disk: private files that are read back as they were written or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from samtrt.errors import OutputError
from samtrt.preparation.frame import Frame
from samtrt.types import Embedding, to_host

log = logging.getLogger("samtrt.server")

_FOLDER = re.compile(r"samtrt-[0-9a-f]{16}")
_FILE = re.compile(r"[0-9a-f]{16}\.embedding")


@dataclass(frozen=True)
class Spilled:
    """An embedding whose numbers are in a file.

    Attributes:
        path: The file: the numbers of one map after the other, C order.
        digest: BLAKE2b of the file. What a file has become since is noticed.
        maps: Name, shape and dtype of each.
        frame: The embedding's.
    """

    path: Path
    digest: bytes
    maps: tuple[tuple[str, tuple[int, ...], np.dtype[np.generic]], ...]
    frame: Frame


class SpillFolder:
    """A folder of one server's own below the one that the user named.

    A lock file beside it is held as long as the server lives. The next server removes the folders
    whose lock nobody holds: those of servers that were killed.
    """

    def __init__(self, parent: Path) -> None:
        """Make the folder, for this user alone.

        Raises:
            OutputError: where `parent` cannot be written.
        """
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_dead(parent)
            self._path = parent / f"samtrt-{secrets.token_hex(8)}"
            self._lock = _lock_of(self._path)
            self._lock.acquire()
            self._path.mkdir(mode=0o700)
        except (OSError, Timeout) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"cannot spill into {parent}: {reason}") from None

    def write(self, embedding: Embedding) -> Spilled:
        """Write an embedding's numbers.

        Raises:
            OutputError: where there is no room for them. Nothing is left behind.
        """
        maps = {name: np.ascontiguousarray(to_host(one)) for name, one in embedding.maps.items()}
        digest = hashlib.blake2b()
        # Not named after the id: errors with the path go to the log, ids do not.
        path = self._path / f"{secrets.token_hex(8)}.embedding"
        try:
            with path.open("wb") as file:
                for array in maps.values():
                    file.write(array.data)
                    digest.update(array.data)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
        about = tuple((name, array.shape, array.dtype) for name, array in maps.items())
        return Spilled(path, digest.digest(), about, embedding.frame)

    def read(self, spilled: Spilled) -> Embedding | None:
        """Read an embedding back; None where its file is gone or is not what was written."""
        try:
            data = spilled.path.read_bytes()
        except (OSError, MemoryError) as error:
            log.warning("a spilled image could not be read back: %s", error)
            return None
        if hashlib.blake2b(data).digest() != spilled.digest:
            log.warning("a spilled image is not what was written: %s", spilled.path)
            return None
        maps, start = {}, 0
        for name, shape, dtype in spilled.maps:
            count = math.prod(shape)
            maps[name] = np.frombuffer(data, dtype, count, start).reshape(shape)
            start += count * dtype.itemsize
        return Embedding.of(maps, spilled.frame)

    def remove(self, spilled: Spilled) -> None:
        """Remove an embedding's file."""
        with contextlib.suppress(OSError):  # `close` removes it, or the next server
            spilled.path.unlink()

    def close(self) -> None:
        """Remove everything; safe to call twice."""
        _remove(self._path)
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def remove_dead(parent: Path) -> None:
    """Remove what servers that were killed left in a folder, and nothing else."""
    for lock_file in sorted(parent.glob("samtrt-*.lock")):
        folder = lock_file.with_suffix("")
        if not _FOLDER.fullmatch(folder.name) or lock_file.is_symlink() or folder.is_symlink():
            continue
        lock = _lock_of(folder)
        try:
            lock.acquire()
        except (OSError, Timeout):
            continue  # its server lives, or is another user's
        try:
            if _remove(folder):
                log.info("removed %s, which a server left that was killed", folder)
        finally:
            lock.release()
            lock_file.unlink(missing_ok=True)


def _lock_of(folder: Path) -> FileLock:
    # Released by whichever thread closes the server.
    return FileLock(f"{folder}.lock", timeout=0, mode=0o600, thread_local=False)


def _remove(folder: Path) -> bool:
    """Remove a folder of ours; False where something that is not ours keeps it."""
    try:
        for path in folder.iterdir():
            if _FILE.fullmatch(path.name):
                path.unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        return False
    return True
