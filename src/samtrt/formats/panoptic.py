"""Masks as COCO's panoptic form: a picture of segment numbers, and what each is.

A pixel belongs to one segment; its number is red + 256 green + 65536 blue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samtrt.formats.annotation import AnnotatedImage, Categories
from samtrt.formats.coco import coco_categories
from samtrt.formats.labelmap import label_map
from samtrt.masks.drawing import colour_of
from samtrt.masks.rle import patch_of


def save_panoptic(
    path: Path, image: AnnotatedImage, categories: Categories
) -> list[dict[str, Any]]:
    """Write the picture as PNG.

    Where masks overlap, the smaller lies on top; one that nothing is seen of has no segment.

    Returns:
        `segments_info`, of pixels that are seen.
    """
    labels = label_map(image)
    numbers = np.zeros((*image.size, 3), dtype=np.uint8)
    numbers[..., 0], numbers[..., 1] = labels & 255, labels >> 8
    Image.fromarray(numbers).save(path, format="PNG")
    segments = []
    for number, one in enumerate(image.annotations, start=1):
        x, y, width, height = one.bbox
        seen = labels[y : y + height, x : x + width] == number
        left, top, part = patch_of(seen)
        if not part.size:
            continue
        segments.append(
            {
                "id": number,
                **({"source_id": one.id} if one.id is not None else {}),
                "category_id": categories.of(one).id,
                "area": int(np.count_nonzero(part)),
                "bbox": [x + left, y + top, part.shape[1], part.shape[0]],
                "iscrowd": 0,
                **({"score": one.score} if one.score is not None else {}),
                "predicted_iou": one.more.get("predicted_iou"),
            }
        )
    return segments


def panoptic_categories(categories: Categories) -> list[dict[str, Any]]:
    """Describe the classes: all are things, whose segments are counted."""
    return [
        {"isthing": 1, "color": list(colour_of(i)), "supercategory": one["name"], **one}
        for i, one in enumerate(coco_categories(categories))
    ]
