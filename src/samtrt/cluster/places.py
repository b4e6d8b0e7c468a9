"""Directories that all nodes reach: a shared folder, or an address that fsspec knows (s3://, gs://)."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from samtrt.errors import ClusterError, MissingExtraError, OutputError
from samtrt.files import write_atomic


def is_address(text: str) -> bool:
    """Tell an address of fsspec from a path."""
    return "://" in text


class Place:
    """A directory at an address, for any number of threads. Its methods raise `OutputError`.

    A file in it appears whole or not at all: object stores do that by themselves, folders get it
    by `write_atomic`, and all others by a name apart and a move.
    """

    def __init__(self, address: str) -> None:
        """Open it.

        Raises:
            MissingExtraError: where fsspec is not installed, which Ray Data needs too.
            ClusterError: where there is no such kind of address, or its package is missing.
        """
        try:
            import fsspec
        except ImportError:
            raise MissingExtraError(address, "ray", "fsspec") from None
        from fsspec.implementations.local import LocalFileSystem
        from fsspec.implementations.memory import MemoryFileSystem

        try:
            # What others wrote since a listing counts.
            self._files, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ClusterError(f"cannot use the address {address}: {reason}") from None
        self.address, self._root = address.rstrip("/"), str(root).rstrip("/")
        self._is_folder = isinstance(self._files, LocalFileSystem)
        # fsspec's file systems with asynchronous insides are object stores, and take any thread.
        self._is_store = self._files.async_impl or isinstance(self._files, MemoryFileSystem)
        free = self._is_folder or self._is_store
        self._alone: AbstractContextManager[Any] = nullcontext() if free else Lock()

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where there is no such file."""
        with self._doing("read", name) as path:
            try:
                content: bytes = self._files.cat_file(path)
            except FileNotFoundError:
                return None
            return content

    def exists(self, name: str) -> bool:
        """Tell whether there is something of this name."""
        with self._doing("read", name) as path:
            return bool(self._files.exists(path))

    def is_file(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        with self._doing("read", name) as path:
            return bool(self._files.isfile(path))

    def holds_files(self, name: str) -> bool:
        """Tell whether there is a directory of this name with something in it."""
        with self._doing("read", name) as path:
            try:
                return any(one.rstrip("/") != path for one in self._files.ls(path, detail=False))
            except (FileNotFoundError, NotADirectoryError):
                return False

    def files(self, recursive: bool) -> tuple[list[str], int]:
        """Return the names of all files, sorted, and the number of directories left out."""
        with self._doing("read", "") as path:
            depth = None if recursive else 1
            found = self._files.find(path, maxdepth=depth, withdirs=not recursive, detail=True)
        names = {one[len(self._root) :].lstrip("/"): about["type"] for one, about in found.items()}
        directories = sum(kind == "directory" and bool(name) for name, kind in names.items())
        return sorted(name for name, kind in names.items() if name and kind == "file"), directories

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole."""
        with self._doing("write", name) as path:
            self._whole(path, lambda place: self._files.pipe_file(place, content))

    def send(self, file: Path, name: str) -> None:
        """Bring a file there, whole."""
        with self._doing("write", name) as path:
            self._whole(path, lambda place: self._files.put_file(str(file), place))

    def _whole(self, path: str, put: Callable[[str], object]) -> None:
        if self._is_store:
            put(path)
        elif self._is_folder:
            with write_atomic(Path(path)) as temporary:
                put(str(temporary))
        else:
            place = posixpath.dirname(path)
            self._files.makedirs(place, exist_ok=True)
            half = posixpath.join(place, f".samtrt-{secrets.token_hex(8)}")
            put(half)
            self._files.mv(half, path)

    def remove(self, name: str) -> None:
        """Remove a file; fine where there is none."""
        with self._doing("remove", name) as path, suppress(FileNotFoundError):
            self._files.rm_file(path)

    def fetch(self, name: str, into: Path) -> bool:
        """Bring a file here; return False where there is none."""
        content = self.read(name)
        if content is None:
            return False
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_bytes(content)
        return True

    @contextmanager
    def _doing(self, what: str, name: str) -> Iterator[str]:
        """Yield a file's path; what fails is told with its address."""
        try:
            with self._alone:
                yield posixpath.join(self._root, name) if name else self._root
        except OutputError:
            raise
        except Exception as error:  # each kind of store has its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OutputError(f"cannot {what} {self.told(name)}: {reason}") from None

    def told(self, name: str) -> str:
        """Return a file's address."""
        return posixpath.join(self.address, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.address,)
