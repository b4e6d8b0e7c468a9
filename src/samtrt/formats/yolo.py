"""Automatic masks as YOLO segmentation labels, as Ultralytics reads them."""

from __future__ import annotations

from collections.abc import Sequence

from samtrt.formats.polygons import join_polygons, polygons_of
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord
from samtrt.types import Size


def yolo_labels(records: Sequence[MaskRecord], size: Size, kind: int = 0) -> str:
    """Write one line a mask: the class, then x and y of each corner as shares of the image.

    A mask in several parts becomes one polygon with bridges between them; holes are lost.
    Corners are at pixel centres, so that scaling and rounding down finds the pixel again.

    Args:
        records: Masks as RLE.
        size: The image's (height, width).
        kind: The class of every mask.
    """
    height, width = size
    lines = []
    for record in records:
        polygons = polygons_of(rle.cut(rle.of(record["segmentation"])))
        if polygons:
            shares = (join_polygons(polygons) + 0.5) / (width, height)
            lines.append(f"{kind} " + " ".join(f"{share:.6f}" for share in shares.ravel()) + "\n")
    return "".join(lines)
