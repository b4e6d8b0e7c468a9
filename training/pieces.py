"""Split a file into pieces of at most 16 MB, and join them again.

python training/pieces.py split FILE FOLDER
python training/pieces.py join FOLDER/FILE.000 FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

PIECE_BYTES = 15_000_000


def split(path: Path, folder: Path) -> list[Path]:
    """Write `folder`/NAME.000, NAME.001, ... and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes()
    pieces = []
    for i, start in enumerate(range(0, max(1, len(data)), PIECE_BYTES)):
        piece = folder / f"{path.name}.{i:03d}"
        piece.write_bytes(data[start : start + PIECE_BYTES])
        pieces.append(piece)
    return pieces


def join(first: Path, path: Path) -> None:
    """Join the pieces that share `first`'s name up to its number."""
    pieces = sorted(first.parent.glob(first.stem + ".[0-9][0-9][0-9]"))
    if not pieces or pieces[0].suffix != ".000":
        raise FileNotFoundError(f"no pieces of {first.stem} in {first.parent}")
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("split", "join"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    (split if args.action == "split" else join)(args.source, args.target)


if __name__ == "__main__":
    main()
