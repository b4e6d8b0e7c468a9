"""Masks as a labelme file, of polygons that a hand can edit."""

from __future__ import annotations

from typing import Any

from samtrt.formats.annotation import AnnotatedImage, Categories
from samtrt.formats.polygons import Outline, polygons_of

LABELME_VERSION = "5.5.0"
"""The release whose fields are written; later ones read them too."""


def labelme_document(
    image: AnnotatedImage, image_path: str, categories: Categories, outline: Outline | None = None
) -> dict[str, Any]:
    """Describe masks as polygons; those of one mask share a `group_id`. Holes are lost.

    Each shape has `score`, `id`, `category_id` and `predicted_iou` beside labelme's own keys, where
    they are known: labelme keeps them.

    Args:
        image: The picture and its masks.
        image_path: Where labelme finds the picture, relative to its file.
        categories: Whose names are the labels.
        outline: How near the polygons follow the masks; None for every pixel.
    """
    shapes = []
    for number, one in enumerate(image.annotations):
        category = categories.of(one)
        iou = one.more.get("predicted_iou")
        facts = {**one.facts, "category_id": category.id, "predicted_iou": iou}
        facts.pop("label", None)
        for polygon in polygons_of(one.patch, outline):
            shapes.append(
                {
                    "label": category.name,
                    "points": polygon.astype(float).tolist(),
                    "group_id": number,
                    "description": "" if iou is None else f"predicted IoU {iou:.3f}",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                    **facts,
                }
            )
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": int(image.size[0]),
        "imageWidth": int(image.size[1]),
    }
