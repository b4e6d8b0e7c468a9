"""Writing files so that a reader sees the old one or the new one, and telling files apart."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import platformdirs

from samtrt.errors import OutputError


def cache_dir() -> Path:
    """Return where checkpoints and kernel times are kept: `$SAMTRT_CACHE`, or the user's cache."""
    chosen = os.environ.get("SAMTRT_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("samtrt")


@contextmanager
def write_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well.

    Raises:
        OutputError: where the place cannot be written or has no room. Nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_file_beside(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staging_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target` whose files move into it when the block ends well.

    Raises:
        OutputError: where the place cannot be written or has no room. `target` keeps the files
            that it had; nothing half-written is left.
    """
    if target.exists() and not target.is_dir():
        raise OutputError(f"cannot write into {target}: it is a file, not a directory")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from None
    try:
        yield staging
        target.mkdir(exist_ok=True)
        for file in sorted(staging.iterdir()):
            file.replace(target / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _new_file_beside(path: Path) -> Path:
    """Create an empty file of a new name, with the permissions that any new file gets.

    `tempfile` gives its files to their owner alone, and the mask that says what others get cannot
    be read without changing it for every thread of the process.
    """
    while True:
        temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return temporary


def sha256_of(path: Path) -> str:
    """Hash a file without reading it into memory at once."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
