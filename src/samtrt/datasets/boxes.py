"""Which boxes of a file, or of a folder of label files, belong to which pictures of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from samtrt.choices import BoxForm
from samtrt.embeddings import is_embedding_file, read_embedding_info
from samtrt.errors import PromptError, SamtrtError
from samtrt.files import printable
from samtrt.formats.boxes import (
    Boxes,
    Listing,
    NotListed,
    Rows,
    Subject,
    Unreadable,
    fit,
    open_listing,
    telling,
)
from samtrt.images.orientation import orientation_of_file
from samtrt.sources import Source
from samtrt.types import Size


@dataclass(frozen=True)
class GivenBoxes:
    """What a file says of one picture. Its rows are read when they are wanted, or pickled.

    Attributes:
        path: The file, or the folder of label files.
        picture: The picture's path; of an embedding, where its picture would be beside it.
        sha256: A hash of all that is said.
        rows: Returns the boxes.
    """

    path: Path
    picture: Path
    sha256: str
    rows: Callable[[], Rows]

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_rows, (self.path, self.picture, self.sha256, self._read())

    def fitted(self, source: Source, size: Size) -> Boxes:
        """Return the boxes in the picture's own pixels; there may be none.

        Args:
            source: The picture, or the embedding of it.
            size: Its (height, width), upright.

        Raises:
            PromptError: where they cannot be of it.
        """
        turned = None if is_embedding_file(source.path) else orientation_of_file(source.path)
        rows = self._read()
        with telling(self.path):
            return fit(rows, Subject(str(self.picture), size, turned))

    def _read(self) -> Rows:
        with telling(self.path):
            return self.rows()


def _with_rows(path: Path, picture: Path, sha256: str, rows: Rows) -> GivenBoxes:
    return GivenBoxes(path, picture, sha256, lambda: rows)


@dataclass
class Assignment:
    """What a file of boxes says of the pictures of a folder.

    Attributes:
        found: The pictures that it names, each with its boxes.
        failed: Pictures whose boxes cannot be told or read, and why.
        unlisted: Pictures that it does not name.
        missing: Names in it that no picture has.
    """

    found: dict[Source, GivenBoxes] = field(default_factory=dict)
    failed: list[tuple[Source, SamtrtError]] = field(default_factory=list)
    unlisted: list[Source] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class BoxSource:
    """Boxes of many pictures."""

    def __init__(self, path: Path, form: BoxForm | None = None) -> None:
        """Open a file that names pictures, or a folder of label files.

        Raises:
            PromptError: where it cannot be read or names no picture.
        """
        self.path = path
        self._pictures: dict[Path, Path] = {}
        with telling(path):
            self.listing: Listing = open_listing(path, form)
        if self.listing.pictures is None:
            raise PromptError(
                f"{path} does not name the pictures that its boxes are for: give a COCO, VIA, "
                "labelme or CSV file that does, or a folder with a label file for each picture"
            )

    @property
    def notices(self) -> Sequence[str]:
        """What was assumed about all pictures."""
        return self.listing.notices

    def assign(self, sources: Sequence[Source]) -> Assignment:
        """Find the boxes of each picture, without opening it."""
        result = Assignment()
        owners: dict[str | None, list[Source]] = {}
        for source in sources:
            try:
                with telling(self.path):
                    rows = self.rows(source)
            except SamtrtError as error:
                result.failed.append((source, error))
                continue
            if rows is None:
                result.unlisted.append(source)
                continue
            owners.setdefault(rows.picture, []).append(source)
            result.found[source] = GivenBoxes(
                self.path, self._picture(source), _digest(rows), partial(self._there, source)
            )
        for picture, several in owners.items():
            if len(several) > 1:
                one, other = (source.shown for source in several[:2])
                why = PromptError(
                    printable(f"{self.path} has boxes of {picture}, which may be {one} or {other}")
                )
                for source in several:
                    del result.found[source]
                    result.failed.append((source, why))
        result.missing = [name for name in self.listing.pictures or () if name not in owners]
        return result

    def rows(self, source: Source) -> Rows | None:
        """Return what is said of a picture, before its size is known; None for nothing.

        Raises:
            Unreadable, ImageError: where that cannot be read.
        """
        try:
            return self.listing.rows(str(self._picture(source).absolute()))
        except NotListed:
            return None

    def _there(self, source: Source) -> Rows:
        """Return the rows of a picture that `assign` found."""
        rows = self.rows(source)
        if rows is None:
            raise Unreadable(f"it does not name {source.shown}")
        return rows

    def _picture(self, source: Source) -> Path:
        """Return the picture's path; that of an embedding is told by the file."""
        if not is_embedding_file(source.path):
            return source.path
        if source.path not in self._pictures:  # the file is read whole
            name = read_embedding_info(source.path).image_name
            self._pictures[source.path] = source.path.with_name(name)
        return self._pictures[source.path]


def _digest(rows: Rows) -> str:
    boxes = [(box.corners, *box.facts().items()) for box in rows.boxes]
    told = repr((rows.declared, rows.shares, rows.image, boxes))
    return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()
