"""The tags of a TIFF directory, which EXIF is too: only what is asked for is looked at.

Pillow reads all tags at once, and one broken value anywhere fails them all.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
"""Bytes of a value by its type's number."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_MOST_TAGS = 4096


@dataclass(frozen=True)
class Tag:
    """Where a tag's values are: `count` of them, of type `kind`, from byte `offset` on."""

    kind: int
    count: int
    offset: int

    @property
    def nbytes(self) -> int:
        return _SIZES.get(self.kind, 1) * self.count


@dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF file.

    Attributes:
        tags: By number.
        following: The bytes of the file that say where the next directory is.
    """

    data: bytes
    order: str
    tags: Mapping[int, Tag]
    following: slice

    @property
    def more(self) -> bool:
        """Whether another directory, such as a further page, follows."""
        return any(self.data[self.following])

    def alone(self) -> bytes:
        """Return the file without its other pages, which Pillow would count one by one."""
        if not self.more:
            return self.data
        data = bytearray(self.data)
        data[self.following] = bytes(len(data[self.following]))
        return bytes(data)

    def integers(self, number: int, most: int = 64) -> tuple[int, ...]:
        """Return the first values of a tag; empty where it is missing, broken or no integer."""
        tag = self.tags.get(number)
        if tag is None or tag.kind not in _INTEGERS:
            return ()
        count = min(tag.count, most)
        try:
            return struct.unpack_from(
                f"{self.order}{count}{_INTEGERS[tag.kind]}", self.data, tag.offset
            )
        except struct.error:
            return ()

    def integer(self, number: int, otherwise: int = 0) -> int:
        """Return a tag's first value."""
        return next(iter(self.integers(number, 1)), otherwise)

    def text(self, number: int, most: int = 1 << 16) -> str:
        """Return a tag's text; empty where it is missing."""
        tag = self.tags.get(number)
        if tag is None or tag.kind != 2:
            return ""
        raw = self.data[tag.offset : tag.offset + min(tag.count, most)]
        return raw.split(b"\0")[0].decode("latin-1")


def read_directory(data: bytes) -> Directory | None:
    """Read the first directory of a TIFF, a BigTIFF or EXIF data; None where there is none."""
    try:
        return _read(data)
    except (struct.error, OverflowError):
        return None


def _read(data: bytes) -> Directory | None:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    if version == 43:
        (start,) = struct.unpack_from(f"{order}Q", data, 8)
        (count,) = struct.unpack_from(f"{order}Q", data, start)
        first, step, head, word = start + 8, 20, f"{order}HHQ", "Q"
    elif version == 42:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        first, step, head, word = start + 2, 12, f"{order}HHI", "I"
    else:
        return None
    tags: dict[int, Tag] = {}
    width = struct.calcsize(word)
    for place in range(first, first + min(count, _MOST_TAGS) * step, step):
        if place + step > len(data):
            break
        number, kind, values = struct.unpack_from(head, data, place)
        tag = Tag(kind, values, place + step - width)
        if tag.nbytes > width:
            (offset,) = struct.unpack_from(f"{order}{word}", data, tag.offset)
            tag = Tag(kind, values, offset)
        tags.setdefault(number, tag)
    end = first + count * step
    return Directory(data, order, tags, slice(end, end + width))
