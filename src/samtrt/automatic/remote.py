"""What servers take and give of automatic masks."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from samtrt.choices import MOST_SPECKS
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord


class AutoOptions(BaseModel):
    """Options of `AutomaticMaskGenerator`, with its names and defaults: null is the model's own.

    No crops: they would need the image's pixels, and servers keep embeddings alone.
    """

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"points_per_side": 16}]}
    )

    points_per_side: int = Field(32, ge=1, le=64, strict=True)
    pred_iou_thresh: float | None = Field(None, ge=0, le=1, strict=True)
    stability_score_thresh: float | None = Field(None, ge=0, le=1, strict=True)
    box_nms_thresh: float = Field(0.7, ge=0, le=1, strict=True)
    min_mask_region_area: int = Field(0, ge=0, le=100_000_000, strict=True)
    specks: int = Field(0, ge=0, le=MOST_SPECKS, strict=True)
    use_m2m: bool = Field(False, strict=True)
    multimask_output: bool = Field(True, strict=True)


def describe(record: MaskRecord, scale: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
    """Return a mask as servers send it.

    Args:
        record: Of a generator whose `output_mode` is "coco_rle".
        scale: Brings x and y of the mask's size to the image's own pixels.
    """
    # The generator keeps the official width and height, which are one less than COCO's.
    x1, y1, x2, y2 = rle.runs_of(rle.of(record["segmentation"])).box
    return {
        "rle": record["segmentation"],
        "score": record["predicted_iou"],
        "stability_score": record["stability_score"],
        "area": record["area"],
        "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1] if record["area"] else [0, 0, 0, 0],
        "point": [value * by for value, by in zip(record["point_coords"][0], scale, strict=True)],
    }
