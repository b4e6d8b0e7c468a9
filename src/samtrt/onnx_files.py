"""What an ONNX file says of other files, read without the `onnx` package.

Of the message only what leads to external data is followed, as numbered in onnx.proto; the rest,
weights above all, is skipped.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _SPARSE, _TENSOR, _ENTRY = range(9)
_INSIDE = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
"""Of each kind of message, which fields hold messages that are followed."""

_KEY, _VALUE = 1, 2
"""Fields of an entry."""


def external_files(path: Path) -> set[str]:
    """Return the names of the files that a graph takes tensors from, as the graph spells them.

    Of what is no ONNX file none are known: no runtime loads it either.

    Raises:
        OSError: where the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            return set()
        with content:
            try:
                return set(_locations(content))
            except (IndexError, ValueError):
                return set()


def _locations(content: mmap.mmap) -> Iterator[str]:
    waiting = [(_MODEL, 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == _ENTRY:
            entry = {number: content[a:b] for number, a, b in _fields(content, start, end)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8", "replace")
            continue
        inside = _INSIDE[kind]
        waiting += [
            (inside[number], a, b)
            for number, a, b in _fields(content, start, end)
            if number in inside
        ]


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields of a message that have a length.

    Raises:
        IndexError, ValueError: where this is no such message.
    """
    while start < end:
        tag, start = _number(content, start)
        match tag & 7:
            case 0:
                _, start = _number(content, start)
            case 1:
                start += 8
            case 2:
                length, start = _number(content, start)
                yield tag >> 3, start, start + length
                start += length
            case 5:
                start += 4
            case _:
                raise ValueError("no message of protobuf 3")
    if start != end:
        raise ValueError("a field is longer than its message")


def _number(content: mmap.mmap, place: int) -> tuple[int, int]:
    """Return a number of variable length and where it ends."""
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
