"""Frames that are pictures in a folder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

from samtrt.images import ImageNotice, ReadOptions, read_picture
from samtrt.sources import find_sources
from samtrt.types import UInt8Array
from samtrt.video.sequence import Frames

FOLDER_RATE = Fraction(25)
"""Frames a second of a folder of pictures, which says nothing of it."""


class FolderFrames(Frames):
    """Pictures of a folder: `2.jpg` is before `10.jpg`.

    What is assumed to read them is told once for all of them, by an `ImageNotice` if nothing else.
    """

    def __init__(
        self,
        path: Path,
        options: ReadOptions | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        found = sorted(find_sources([path]).paths, key=lambda one: _natural(one.name))
        times = [i / FOLDER_RATE for i in range(len(found))]
        super().__init__(path, path.resolve().name, times)
        self.paths, self._options = found, options or ReadOptions()
        self._tell: Callable[[str], None] | None = tell or _warn

    @property
    def names(self) -> list[str]:
        return [path.name for path in self.paths]

    @property
    def identity(self) -> dict[str, Any]:
        digest = sha256()
        for path in self.paths:
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        about = {"name": self.name, "pictures": len(self.paths), "sha256": digest.hexdigest()}
        chosen = self._options.value_range
        return about if chosen is None else {**about, "value_range": [*chosen]}

    def _read(self, index: int) -> UInt8Array:
        picture = read_picture(self.paths[index], self._options)
        if picture.notices and self._tell is not None:
            tell, self._tell = self._tell, None
            tell(f"{self.paths[index]}: {'; '.join(picture.notices)}")
        return picture.pixels

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _warn(told: str) -> None:
    warnings.warn(told, ImageNotice, stacklevel=2)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts numbers within names by their values."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]
