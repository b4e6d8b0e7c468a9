"""How a JPEG is made, from its markers alone: no pixel is decoded (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
"""What may follow in a JPEG's coded data: not a stuffed 0 and no restart."""

_NO_FRAMES = (0xC4, 0xC8, 0xCC)
"""Of the markers of frames, those of tables and of what is reserved."""
END, SCAN, ADOBE = 0xD9, 0xDA, 0xEE
BASELINE, PROGRESSIVE = 0xC0, 0xC2
"""Frames whose coefficients are Huffman-coded, at once or in several passes."""

RGB_TRANSFORM = 0
"""Adobe's mark for three components that are red, green and blue."""


@dataclass(frozen=True)
class Structure:
    """What the markers say, up to the end or to damage.

    Attributes:
        frames: Markers of frames, such as `BASELINE`; one, in all but the rarest files.
        bits: Of a sample of the first frame.
        size: Its height and width; a height of 0 is told later in the file.
        components: Its components' ids.
        sampling: How often each is sampled, across and down.
        scans: Passes over the picture.
        transform: What Adobe's segment says of the colours; None where there is none.
        end: Where the end marker ends; None where the file has none.
    """

    frames: tuple[int, ...] = ()
    bits: int = 0
    size: tuple[int, int] = (0, 0)
    components: tuple[int, ...] = ()
    sampling: tuple[tuple[int, int], ...] = ()
    scans: int = 0
    transform: int | None = None
    end: int | None = None


def structure_of(data: bytes) -> Structure:
    """Follow the markers of a JPEG, bytes that begin with 0xFFD8."""
    frames, frame, scans, transform, end = [], b"", 0, None, None
    place = 2
    while match := _MARKER.search(data, place):
        kind = match[1][0]
        if kind == END:
            end = match.end()
            break
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        place = match.end() + max(length, 2)
        scans += kind == SCAN
        if kind <= 0xCF and kind not in _NO_FRAMES:
            frames.append(kind)
            frame = frame or data[match.end() + 2 : place]
        elif kind == ADOBE:
            said = data[match.end() + 2 : place]
            transform = said[11] if said[:5] == b"Adobe" and len(said) >= 12 else transform
    count = frame[5] if len(frame) > 5 else 0
    parts = [frame[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    whole = [part for part in parts if len(part) == 3]
    return Structure(
        tuple(frames),
        frame[0] if frame else 0,
        (int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")),
        tuple(part[0] for part in whole),
        tuple((part[1] >> 4, part[1] & 15) for part in whole),
        scans,
        transform,
        end,
    )
