"""Label Studio's smart regions to prompts of SAM, and masks to its brush strokes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from samtrt.errors import PromptError
from samtrt.formats.labelstudio import brush_rle
from samtrt.interactive import Segment
from samtrt.masks.rle import patch_of


@dataclass(frozen=True)
class Prompt:
    """One object that somebody points at; coordinates are pixels of the upright image.

    Attributes:
        label: The label that was chosen for it.
        points: [N, 2], XY.
        labels: [N], 1 for what belongs to the object, 0 for what does not.
        box: XYXY, or None.
    """

    label: str
    points: list[list[float]]
    labels: list[int]
    box: list[float] | None


def prompts_of(regions: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> list[Prompt]:
    """Read the regions of one interaction.

    Every rectangle is an object of its own, and all points belong to each of them; without
    rectangles the points are one object.

    Args:
        regions: `context["result"]` of a call of Label Studio.
        size: Height and width of the picture.

    Raises:
        PromptError: where a region is no prompt, or was drawn on a picture of another size.
    """
    points: list[list[float]] = []
    labels: list[int] = []
    boxes: list[tuple[str, list[float]]] = []
    names: list[str] = []
    for region in regions:
        try:
            kind, value = region["type"], region["value"]
            _check_picture(region, size)
            x, y = _pixels(value, "x", size[1]), _pixels(value, "y", size[0])
            if kind == "keypointlabels":
                points.append([x, y])
                labels.append(int(bool(region.get("is_positive", True))))
            elif kind == "rectanglelabels":
                if value.get("rotation"):
                    raise PromptError("rotated rectangles are no prompts: draw it upright")
                right = x + _pixels(value, "width", size[1])
                bottom = y + _pixels(value, "height", size[0])
                boxes.append((str(value[kind][0]), [x, y, right, bottom]))
            else:
                raise PromptError(f"prompts are labelled keypoints and rectangles, not {kind!r}")
            names.append(str(value[kind][0]))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise PromptError("a region is not as Label Studio describes regions") from None
    if boxes:
        return [Prompt(name, points, labels, box) for name, box in boxes]
    return [Prompt(names[-1], points, labels, None)] if points else []


def _pixels(value: Mapping[str, Any], name: str, length: int) -> float:
    """Return a coordinate, which Label Studio gives in percent, in pixels."""
    percent = float(value[name])
    if not math.isfinite(percent):
        raise ValueError(name)
    return percent * length / 100


def _check_picture(region: Mapping[str, Any], size: tuple[int, int]) -> None:
    there = int(region["original_height"]), int(region["original_width"])
    if there != size:
        raise PromptError(
            f"the picture is {size[1]} x {size[0]} here and {there[1]} x {there[0]} in Label "
            "Studio: it is not the same file"
        )
    if region.get("image_rotation"):
        raise PromptError("the picture is shown rotated: turn it back to use the model")


def brush_region(segment: Segment, label: str, from_name: str, to_name: str) -> dict[str, Any]:
    """Describe a mask as a region of `BrushLabels`."""
    height, width = segment.mask.shape
    return {
        "id": uuid4().hex[:10],
        "type": "brushlabels",
        "from_name": from_name,
        "to_name": to_name,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": brush_rle(patch_of(segment.mask), (height, width)).tolist(),
            "brushlabels": [label],
        },
        "score": segment.score,
        "readonly": False,
    }
