"""Protobuf messages, as far as taking an ONNX file apart needs: fields, which are copied unread.

Runtimes come without the `onnx` package, which only exporting needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""How a field is written, by its wire type."""


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: Which field it is; repeated fields come several times.
        value: What it holds: a number, or the bytes of a text or of a message.
        raw: All of its bytes, as they stand in the message.
    """

    number: int
    value: int | memoryview
    raw: memoryview

    @property
    def message(self) -> memoryview:
        """The bytes of a message; raises ValueError where it is none."""
        if not isinstance(self.value, memoryview):
            raise ValueError("a number where a message was expected")
        return self.value

    @property
    def text(self) -> str:
        """A text; raises ValueError where it is none."""
        return bytes(self.message).decode()


def fields(message: bytes | memoryview) -> Iterator[Field]:
    """Yield a message's fields in their order.

    Raises:
        ValueError: where it is none, or cut off.
    """
    view, place = memoryview(message), 0
    while place < len(view):
        start = place
        tag, place = _varint(view, place)
        number, kind = tag >> 3, tag & 7
        value: int | memoryview
        if kind == VARINT:
            value, place = _varint(view, place)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == BYTES:
                size, place = _varint(view, place)
            if size is None or place + size > len(view):
                raise ValueError("no protobuf message, or one that is cut off")
            value, place = view[place : place + size], place + size
        yield Field(number, value, view[start:place])


def field(number: int, parts: Iterable[bytes | memoryview]) -> bytes:
    """Write a field that holds a text or a message, of parts that follow one another."""
    content = b"".join(parts)
    return _written(number << 3 | BYTES) + _written(len(content)) + content


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    """Read a number in groups of 7 bits, the lowest first; return it and the place behind it."""
    value = shift = 0
    while place < len(view) and shift < 70:
        byte = view[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("no protobuf message, or one that is cut off")


def _written(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
