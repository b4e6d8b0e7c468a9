"""One mask of an image, as files and the official generator describe it."""

from __future__ import annotations

from typing import TypedDict

from samtrt.masks.rle import Rle
from samtrt.types import BoolArray


class MaskRecord(TypedDict):
    """One mask, as the official generator describes it.

    Attributes:
        segmentation: bool [H, W], or RLE where `output_mode` asks for it.
        area: Pixels in the mask.
        bbox: x, y, width, height; the official width and height, from the first to the last pixel,
            are one less than COCO's.
        predicted_iou: The model's own estimate.
        point_coords: The point that was asked about: [[x, y]].
        stability_score: IoU of the masks at the raised and the lowered threshold.
        crop_box: x, y, width, height of the crop that the mask was found in.
    """

    segmentation: BoolArray | Rle
    area: int
    bbox: list[int]
    predicted_iou: float
    point_coords: list[list[float]]
    stability_score: float
    crop_box: list[int]
