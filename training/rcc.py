"""Unpack Qt resource files (.rcc), in which gcompris keeps its pictures.

python training/rcc.py FOLDER_OF_RCC_FILES OUT
"""

from __future__ import annotations

import argparse
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

COMPRESSED, DIRECTORY, ZSTD = 1, 2, 4


def entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of every file in a resource collection of format 1 to 3.

    Layout as in Qt's `qresource.cpp`: a tree of 14-byte nodes (22 from format 2 on, which adds a
    time), big-endian, whose names and contents lie in two further blocks. Contents that zstd
    packed are left out: those are texts and drawings, never JPEG.
    """
    if data[:4] != b"qres":
        raise SystemExit("not a Qt resource file")
    version, tree, content, names = struct.unpack_from(">4I", data, 4)
    node = 14 if version == 1 else 22
    waiting = [(0, "")]
    while waiting:
        index, folder = waiting.pop()
        at = tree + index * node
        (name_at, flags) = struct.unpack_from(">IH", data, at)
        (length,) = struct.unpack_from(">H", data, names + name_at)
        start = names + name_at + 6  # after the length and a hash
        name = data[start : start + 2 * length].decode("utf-16-be") if index else ""
        path = f"{folder}/{name}".lstrip("/")
        if flags & DIRECTORY:
            count, first = struct.unpack_from(">II", data, at + 6)
            waiting += [(first + i, path) for i in range(count)]
        elif not flags & ZSTD:
            (offset,) = struct.unpack_from(">I", data, at + 10)
            (size,) = struct.unpack_from(">I", data, content + offset)
            blob = data[content + offset + 4 : content + offset + 4 + size]
            yield path, zlib.decompress(blob[4:]) if flags & COMPRESSED else blob


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    for source in sorted(args.source.glob("*.rcc")):
        for path, blob in entries(source.read_bytes()):
            target = args.out / source.stem / path
            if args.out.resolve() not in target.resolve().parents:
                raise SystemExit(f"{source} would write outside {args.out}: {path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(blob)


if __name__ == "__main__":
    main()
