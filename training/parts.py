"""Data-set parts: encoded pictures packed in a few files small enough to carry around.

A part is an uncompressed `.npz` with `names` (`kind/split/id`, kind one of object, inside, photo,
ids, cutoff and wholes), `offsets` and `data` (the encoded files, one after another).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PART_BYTES = 45_000_000
HELD_OUT_PERCENT = 10


def split_of(digest: str) -> str:
    """Return `heldout` for a tenth of all hex digests, `train` for the rest."""
    return "heldout" if int(digest[:8], 16) % 100 < HELD_OUT_PERCENT else "train"


def write_parts(items: Iterable[tuple[str, bytes]], folder: Path) -> list[Path]:
    """Pack (name, encoded bytes) into `folder`/00/part.npz, 01/part.npz and so on."""
    written: list[Path] = []
    batch: list[tuple[str, bytes]] = []
    size = 0

    def flush() -> None:
        path = folder / f"{len(written):02d}" / "part.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        blobs = [blob for _, blob in batch]
        with path.open("wb") as file:
            np.savez(
                file,
                names=np.array([name for name, _ in batch]),
                offsets=np.cumsum([0, *map(len, blobs)]),
                data=np.frombuffer(b"".join(blobs), np.uint8),
            )
        written.append(path)

    for name, blob in items:
        if batch and size + len(blob) > PART_BYTES:
            flush()
            batch, size = [], 0
        batch.append((name, blob))
        size += len(blob)
    if batch:
        flush()
    return written


def read_parts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every (name, encoded bytes) of the parts below `folder`, in order."""
    paths = sorted(folder.rglob("part*.npz"))
    if not paths:
        raise FileNotFoundError(f"no part*.npz below {folder}; run training/prepare.py first")
    for path in paths:
        with np.load(path) as part:
            offsets, data = part["offsets"], part["data"].tobytes()
            for i, name in enumerate(part["names"]):
                yield str(name), data[offsets[i] : offsets[i + 1]]


def opened(blob: bytes) -> np.ndarray:
    """Return an encoded picture's pixels [H, W, C]."""
    with Image.open(io.BytesIO(blob)) as file:
        return np.atleast_3d(np.asarray(file))


def as_png(pixels: np.ndarray) -> bytes:
    """Encode pixels, uint8 [H, W] or [H, W, C]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
