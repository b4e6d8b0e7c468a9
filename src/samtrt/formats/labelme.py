"""Automatic masks as a labelme file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samtrt.formats.polygons import polygons_of
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord
from samtrt.types import Size

LABELME_VERSION = "5.5.0"
"""The release whose fields are written; later ones read them too."""


def labelme_document(
    records: Sequence[MaskRecord], image_path: str, size: Size, label: str = "object"
) -> dict[str, Any]:
    """Describe masks as polygons; those of one mask share a `group_id`. Holes are lost.

    Args:
        records: Masks as RLE.
        image_path: Where labelme finds the picture, relative to its file.
        size: The picture's (height, width).
        label: The label of every mask.
    """
    shapes = []
    for number, record in enumerate(records):
        for polygon in polygons_of(rle.cut(rle.of(record["segmentation"]))):
            shapes.append(
                {
                    "label": label,
                    "points": polygon.astype(float).tolist(),
                    "group_id": number,
                    "description": f"predicted IoU {record['predicted_iou']:.3f}",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                }
            )
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": int(size[0]),
        "imageWidth": int(size[1]),
    }
