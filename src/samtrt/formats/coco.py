"""Automatic masks as a COCO dataset that pycocotools loads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from samtrt.masks.record import MaskRecord
from samtrt.types import Size

CATEGORY = {"id": 1, "name": "object", "supercategory": ""}
"""SAM's masks have no class."""


def coco_dataset(
    records: Sequence[MaskRecord], image_name: str, size: Size, info: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Describe one image's masks.

    Args:
        records: Masks with compressed RLE (`output_mode="coco_rle"`).
        image_name: The image's file name.
        size: Its (height, width).
        info: What else the file should say of its making.

    Returns:
        A COCO dataset. Boxes are x, y, width, height that count whole pixels, one more than in the
        records; the scores and the point are kept as `predicted_iou`, `stability_score` and
        `point_coords`.
    """
    annotations = []
    for number, record in enumerate(records, start=1):
        x, y, width, height = record["bbox"]
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": CATEGORY["id"],
                "segmentation": record["segmentation"],
                "area": record["area"],
                "bbox": [x, y, width + 1, height + 1] if record["area"] else [x, y, 0, 0],
                "iscrowd": 0,  # RLE alone does not make it a crowd, which tools would leave out
                "predicted_iou": record["predicted_iou"],
                "stability_score": record["stability_score"],
                "point_coords": record["point_coords"],
                "crop_box": record["crop_box"],
            }
        )
    image = {"id": 1, "file_name": image_name, "height": int(size[0]), "width": int(size[1])}
    return {
        "info": info or {},
        "licenses": [],
        "images": [image],
        "categories": [CATEGORY],
        "annotations": annotations,
    }


def merge_coco(datasets: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Make one dataset of many with one image each, numbering images and masks anew."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, dataset in enumerate(datasets, start=1):
        images.append({**dataset["images"][0], "id": number})
        for annotation in dataset["annotations"]:
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": number})
    return {
        "info": {},
        "licenses": [],
        "images": images,
        "categories": [CATEGORY],
        "annotations": annotations,
    }
