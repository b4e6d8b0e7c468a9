"""Writing files so that a reader sees the old one or the new one, and telling files apart."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import platformdirs

from samtrt.errors import OutputError
from samtrt.unfinished import new_directory, new_file

if TYPE_CHECKING:
    import numpy.typing as npt


def cache_dir() -> Path:
    """Return where checkpoints and kernel times are kept: `$SAMTRT_CACHE`, or the user's cache."""
    chosen = os.environ.get("SAMTRT_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("samtrt")


OUTPUT_NOTE = ".samtrt"
"""Name of the file that says that a directory holds results of ours."""


def printable(text: object) -> str:
    """Return text on one line that any terminal and encoding can show: the rest is escaped.

    File names may hold line ends, terminal commands and bytes that are not UTF-8.
    """
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("ascii", "backslashreplace").decode()
        if ord(letter) > 127
        else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def check_target(path: Path) -> Path:
    """Return where a file is to be written: `path`, or what it is a link to.

    Raises:
        OutputError: where that is a folder, a device, a pipe or a socket, which are not replaced.
    """
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise OutputError(f"cannot write {path}: {_reason(error)}") from None
    if stat.S_ISREG(mode) and target.parts[1:2] not in (("dev",), ("proc",)):
        return target
    kind = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or the like"
    raise OutputError(f"cannot write {path}: it is {kind}; give the name of a file")


def check_ours(path: Path, is_ours: Callable[[Path], bool], force: bool) -> None:
    """Make sure that a file may be replaced.

    Args:
        path: Where something is to be written.
        is_ours: Tells whether samtrt wrote the file that is there.
        force: Whether the user allowed to replace any.

    Raises:
        OutputError: where there is a file that is not ours.
    """
    if not force and check_target(path).exists() and not is_ours(path):
        raise OutputError(
            f"{path} is there already and was not written by samtrt: give another name, or replace "
            "it with --force"
        )


@contextmanager
def write_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well.

    A file that is replaced hands on its permissions; of a link, the file that it points to is
    replaced. The temporary name is a short one: `path` may have one as long as names can be.

    Raises:
        OutputError: where the place cannot be written or has no room, or is no file. Nothing is
            left behind; what a killed process left, the next one removes.
    """
    target = check_target(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_file(target.parent, target.suffix) as temporary:
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
            temporary.chmod(mode | stat.S_IWUSR)  # no more than the old one, while it is written
            yield temporary
            temporary.chmod(mode)
            temporary.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}") from None


def write_tensors(
    path: Path, tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str]
) -> None:
    """Write a .safetensors file, whole or not at all.

    Raises:
        OutputError: as `write_atomic`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with write_atomic(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # also for a full disk
            raise OutputError(f"cannot write {path}: {error}") from None


@contextmanager
def staging_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory whose files move into `target` when the block ends well.

    It lies in `target` where that exists, which may be a file system of its own, else beside it.
    Files that are replaced hand on their permissions.

    Raises:
        OutputError: where the place cannot be written or has no room. `target` keeps the files
            that it had; nothing half-written is left, and what a killed process left, the next one
            removes.
    """
    if target.exists() and not target.is_dir():
        raise OutputError(f"cannot write into {target}: it is a file, not a directory")
    try:
        place = target if target.exists() else target.parent
        place.mkdir(parents=True, exist_ok=True)
        with new_directory(place) as staging:
            yield staging
            target.mkdir(exist_ok=True)
            files = sorted(staging.iterdir())
            for file in files:  # before any of them moves
                if (old := check_target(target / file.name)).exists():
                    file.chmod(stat.S_IMODE(old.stat().st_mode))
            for file in files:
                file.replace(target / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}") from None


def _reason(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it, at once: a FIFO would wait for its other end.

    Raises:
        OSError: where it cannot be read, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(handle, "rb")


def read_whole(path: Path, most_bytes: int | None = None) -> bytes:
    """Return a regular file's bytes.

    Args:
        path: The file.
        most_bytes: What a larger file is refused for; None for no limit.

    Raises:
        OSError: where it cannot be read, or is no regular file.
        ValueError: where it is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most_bytes is not None and size > most_bytes:
            raise ValueError(f"it has more than {most_bytes:,} bytes")
        return file.read(size)  # no more: as much is allocated as is asked for


def sha256_of(path: Path) -> str:
    """Hash a file without reading it into memory at once.

    Raises:
        OSError: where it cannot be read, or is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def counted(number: int, what: str) -> str:
    """Say how many there are, as "1 file" or "2 files"."""
    return f"{number:,} {what}" + ("s" if number != 1 else "")
