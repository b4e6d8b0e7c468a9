"""COCO's string of run lengths: five bits of a number in each character."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samtrt.errors import MaskError

_LONGEST = 7
"""Characters of one number at most: 35 bits, room for the difference of any two runs."""


def read_counts(counts: str | bytes) -> npt.NDArray[np.int64]:
    """Return the run lengths of a string, int64 [R] (pycocotools `rleFrString`).

    Six bits a character, starting at '0': five of value, one that says "more". From the fourth run
    on, values are differences to the run before the last.

    Raises:
        MaskError: where it is no such string. Whether its runs are those of a mask is not checked.
    """
    data = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    codes = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        return codes
    if (codes < 0).any() or (codes > 63).any():
        raise MaskError("the mask's counts are not compressed COCO run lengths")
    last = codes & 32 == 0
    ends = np.flatnonzero(last) + 1
    if not len(ends) or ends[-1] != len(codes):
        raise MaskError("the mask's counts end in the middle of a number")
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if lengths.max() > _LONGEST:
        raise MaskError("the mask's counts are not compressed COCO run lengths")
    # At most 35 bits each, and fewer than 2^28 of them in any string that fits in memory: no sum
    # of them comes near 2^63.
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * places), starts)
    negative = codes[ends - 1] & 16 != 0
    runs[negative] -= np.int64(1) << (5 * lengths[negative])
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def write_counts(counts: npt.ArrayLike) -> str:
    """Return the string of run lengths [R] (pycocotools `rleToString`).

    Each count from the fourth on goes as its difference to the one before the last, five bits a
    character, the lowest first; bit 5 says that more follow.
    """
    runs = np.array(counts, dtype=np.int64)
    values = runs.copy()
    values[3:] -= runs[1:-2]
    # Characters of each: as many as hold its bits and a sign.
    lengths = np.ones(len(values), dtype=np.intp)
    rest = values >> 4
    while (more := (rest != 0) & (rest != -1)).any():
        lengths += more
        rest >>= 5
    ends = np.cumsum(lengths)
    places = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
    codes = (np.repeat(values, lengths) >> (5 * places)) & 31
    codes |= 32
    codes[ends - 1] &= 31
    return (codes + 48).astype(np.uint8).tobytes().decode("ascii")
