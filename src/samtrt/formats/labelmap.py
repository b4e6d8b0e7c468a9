"""Automatic masks as one picture whose pixel values are mask numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samtrt.errors import OutputError
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord
from samtrt.types import Size


def label_map(
    records: Sequence[MaskRecord], size: Size
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Give each pixel the number of its mask, 1 for the first record; 0 where there is none.

    Where masks overlap, the smaller lies on top.

    Returns:
        uint8 [H, W], or uint16 where there are more than 255 masks.

    Raises:
        OutputError: for more than 65535 masks.
    """
    if len(records) > np.iinfo(np.uint16).max:
        raise OutputError(f"a label map has room for 65535 masks, not {len(records)}")
    labels = np.zeros(size, dtype=np.uint8 if len(records) <= 255 else np.uint16)
    for index in sorted(range(len(records)), key=lambda i: -records[i]["area"]):
        x, y, mask = rle.cut(rle.of(records[index]["segmentation"]))
        labels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = index + 1
    return labels
