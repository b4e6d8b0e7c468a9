"""What was found, in the form that the official generator gives it."""

from __future__ import annotations

from typing import Literal, get_args

from samtrt.automatic.candidates import Candidate
from samtrt.errors import PromptError
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord
from samtrt.masks.rle import Rle
from samtrt.types import BoolArray

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


def check_output_mode(mode: str) -> None:
    """Raise `PromptError` where the mode is none of `OutputMode`."""
    if mode not in get_args(OutputMode):
        raise PromptError(f"unknown output_mode '{mode}'; use {', '.join(get_args(OutputMode))}")


def record_of(candidate: Candidate, mode: OutputMode) -> MaskRecord:
    """Return the record of a mask, its segmentation as `mode` says."""
    segmentation: BoolArray | Rle
    if mode == "binary_mask":
        segmentation = rle.decode(candidate.rle)
    elif mode == "coco_rle":
        segmentation = rle.compress(candidate.rle)
    else:
        segmentation = rle.with_list(candidate.rle)
    return MaskRecord(
        segmentation=segmentation,
        area=rle.area(candidate.rle),
        bbox=_xywh(candidate.box),
        predicted_iou=candidate.score,
        point_coords=[list(candidate.point)],
        stability_score=candidate.stability,
        crop_box=_xywh(candidate.crop),
    )


def _xywh(box: tuple[int, int, int, int]) -> list[int]:
    x1, y1, x2, y2 = (int(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]
