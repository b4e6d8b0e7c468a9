"""Fuzz the decoder of run lengths against pycocotools, guided by coverage.

    pip install atheris
    python bench/fuzz_rle.py -max_total_time=600      # ten minutes; options are libFuzzer's

What our decoder accepts, pycocotools must read alike; what it refuses, it must refuse with a
`MaskError`. pycocotools checks nothing, so it sees only what was accepted.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["samtrt.masks"]):
    from samtrt.errors import MaskError
    from samtrt.masks import rle

import numpy as np
from pycocotools import mask as coco

accepted = refused = 0


def compare(data: bytes) -> None:
    """Take a size from the first bytes and counts from the rest, as text or as numbers."""
    global accepted, refused
    provider = atheris.FuzzedDataProvider(data)
    size = [provider.ConsumeIntInRange(-1, 40), provider.ConsumeIntInRange(-1, 40)]
    kind = provider.ConsumeIntInRange(0, 3)
    if kind == 0:
        counts: object = provider.ConsumeIntListInRange(20, -(2**64), 2**64)
    elif kind == 1:
        counts = _good(size, provider)
    else:
        counts = provider.ConsumeBytes(10_000).decode("latin-1")
        if kind == 2:  # the characters that are allowed
            counts = "".join(chr(48 + ord(c) % 64) for c in str(counts))
    try:
        mask = rle.decode({"size": size, "counts": counts})
    except MaskError:
        refused += 1
        return
    accepted += 1
    packed = counts if isinstance(counts, str) else rle.compress({"size": size, "counts": counts})
    text = packed if isinstance(packed, str) else packed["counts"]
    if mask.size:
        theirs = coco.decode({"size": size, "counts": text}).astype(bool)
        assert np.array_equal(mask, theirs), (size, counts)


def _good(size: list[int], provider: atheris.FuzzedDataProvider) -> str:
    """Return the counts of some mask of this size, with one character spoilt now and then."""
    total = max(size[0], 0) * max(size[1], 0)
    cuts = sorted(provider.ConsumeIntInRange(0, total) for _ in range(6))
    runs = np.diff([0, *cuts, total]).tolist()
    text = str(rle.compress({"size": [max(side, 0) for side in size], "counts": runs})["counts"])
    if text and provider.ConsumeBool():
        place = provider.ConsumeIntInRange(0, len(text) - 1)
        text = text[:place] + chr(provider.ConsumeIntInRange(47, 113)) + text[place + 1 :]
    return text


def main() -> None:
    atheris.Setup(sys.argv, compare)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
