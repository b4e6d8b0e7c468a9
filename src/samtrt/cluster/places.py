"""Directories that all nodes reach: a shared folder, or an address that fsspec knows (s3://, gs://)."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from samtrt.errors import ClusterError, MissingExtraError, OutputError


def is_address(text: str) -> bool:
    """Tell an address of fsspec from a path."""
    return "://" in text


class Place:
    """A directory at an address. A file in it appears whole or not at all, as far as its kind of
    store can do that; object stores can. Its methods raise `OutputError`."""

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
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ClusterError(f"cannot use the address {address}: {reason}") from None
        self.address = address

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where there is no such file."""
        try:
            content: bytes = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        except Exception as error:  # each kind of store has its own
            raise self._error("read", name, error) from None
        return content

    def exists(self, name: str) -> bool:
        """Tell whether there is something of this name."""
        try:
            return bool(self._files.exists(self._path(name)))
        except Exception as error:
            raise self._error("read", name, error) from None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole."""
        path = self._path(name)
        try:
            self._files.makedirs(posixpath.dirname(path), exist_ok=True)
            with self._files.transaction, self._files.open(path, "wb") as file:
                file.write(content)
        except Exception as error:
            raise self._error("write", name, error) from None

    def remove(self, name: str) -> None:
        """Remove a file; fine where there is none."""
        try:
            self._files.rm_file(self._path(name))
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._error("remove", name, error) from None

    def fetch(self, name: str, into: Path) -> bool:
        """Bring a file here; return False where there is none."""
        content = self.read(name)
        if content is None:
            return False
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_bytes(content)
        return True

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else str(self._root)

    def _error(self, what: str, name: str, error: Exception) -> Exception:
        reason = " ".join(str(error).split()) or type(error).__name__
        where = posixpath.join(self.address, name)
        return OutputError(f"cannot {what} {where}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.address,)
