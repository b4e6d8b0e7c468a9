"""The images that a command over many of them works on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from samtrt.errors import ImageError
from samtrt.files import counted, printable
from samtrt.images.formats import suffixes

_NAMED = 3
"""Skipped files that are named; of more, only their number is told."""


@dataclass(frozen=True)
class Source:
    """An image to work on.

    Attributes:
        path: The file.
        name: What its results are called: its path in the folder that was given, without suffix.
        place: Address of the folder that `path` is a path in, such as s3://bucket/images; empty
            for a file that this machine reaches by its path.
    """

    path: Path
    name: PurePath
    place: str = ""

    @property
    def shown(self) -> str:
        """The file's path in the folder that was given, as datasets name it."""
        return self.name.with_name(self.path.name).as_posix()

    @property
    def told(self) -> str:
        """Where it is, for users to read."""
        return f"{self.place}/{self.path.as_posix()}" if self.place else str(self.path)


@dataclass
class Sources:
    """What `find_sources` found.

    Attributes:
        found: The images, by name.
        skipped: Files in the folders that are no images by their suffix.
        folders: Folders in the folders, that were not searched.
    """

    found: list[Source] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    folders: int = 0

    @property
    def paths(self) -> list[Path]:
        return [source.path for source in self.found]

    def notice(self) -> str:
        """Say in a line what was left out; empty where nothing was."""
        parts = []
        if self.skipped:
            names = [printable(path.name) for path in self.skipped[:_NAMED]]
            if (rest := len(self.skipped) - len(names)) > 0:
                names.append(f"{rest} more")
            kinds = Counter(path.suffix.lower() or "no suffix" for path in self.skipped)
            listed = ", ".join(f"{printable(kind)}: {n}" for kind, n in kinds.most_common(_NAMED))
            parts.append(
                f"{counted(len(self.skipped), 'file')} that no image reader has a suffix "
                f"for ({listed}): {', '.join(names)}"
            )
        if self.folders:
            parts.append(f"{counted(self.folders, 'folder')} in it (search them with --recursive)")
        return f"skipped {' and '.join(parts)}" if parts else ""


def find_sources(
    paths: Sequence[Path],
    more: tuple[str, ...] = (),
    recursive: bool = False,
    leave_out: Path | None = None,
) -> Sources:
    """Return the files among `paths`, and those that their folders hold, by name.

    Args:
        paths: Files, taken as they are, and folders. Hidden files and folders do not count.
        more: Suffixes to look for in folders beside those of images.
        recursive: Whether folders in folders are searched too. Links to folders are not followed.
        leave_out: A folder not to be searched, such as the one that results go to.

    Raises:
        ImageError: where a folder cannot be read or holds none, or two files would write results
            of one name.
    """
    wanted = suffixes() + more
    sources = Sources()
    for path in paths:
        if not path.is_dir():
            sources.found.append(Source(path, PurePath(path.stem)))
            continue
        inside = []
        for file in _files(path, recursive, leave_out, sources):
            if file.suffix.lower() in wanted:
                inside.append(Source(file, file.relative_to(path).with_suffix("")))
            else:
                sources.skipped.append(file)
        if not inside:
            left = f"; {notice}" if (notice := sources.notice()) else ""
            raise ImageError(f"{path} holds no image{left}")
        sources.found += inside
    check_names(sources.found)
    return sources


def check_names(sources: Sequence[Source]) -> None:
    """Make sure that no two files would write results of one name.

    Raises:
        ImageError: where two would.
    """
    by_name: dict[PurePath, Source] = {}
    for source in sources:
        if (other := by_name.setdefault(source.name, source)) is not source:
            raise ImageError(
                f"{other.told} and {source.told} would write results of the same name: rename one, "
                "or run them apart"
            )


def _files(
    folder: Path, recursive: bool, leave_out: Path | None, sources: Sources
) -> Iterator[Path]:
    """Yield the files of a folder that are not hidden; count the folders left out."""

    def fail(error: OSError) -> None:
        raise ImageError(f"cannot read {error.filename}: {error.strerror or error}")

    apart = leave_out.resolve() if leave_out else None
    for place, folders, names in os.walk(folder, onerror=fail):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != apart
        )
        for name in sorted(names):
            if not name.startswith("."):
                yield here / name
        if not recursive:
            sources.folders += len(folders)
            folders.clear()
