"""The hand-labelled photographs of `training/photos`: images, masks and fixed prompts.

There are two sets, which are reported apart: the first is the one that every earlier figure is of,
the second was drawn later.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO

from samtrt.images import read_image
from samtrt.types import BoolArray, UInt8Array

PHOTOS = Path(__file__).parent / "photos" / "photos.json"
"""The first set."""
MORE_PHOTOS = PHOTOS.parent / "more" / "photos.json"
"""The second."""


@dataclass(frozen=True)
class PhotoObject:
    """One labelled object.

    Attributes:
        name: What it is; unique within its photograph.
        mask: bool [H, W], drawn by hand.
        box: float [4], XYXY in pixels, tight around the mask: the prompt "box".
        loose_box: the same with each side moved by noise of 5% of the box's size (one draw, always
            the same), as people and detectors draw boxes: the prompt "box 5% off".
        points: float [3, 2], XY in pixels, inside the mask: the prompt "3 points"; the first
            alone is the prompt "1 point".
    """

    name: str
    mask: BoolArray
    box: npt.NDArray[np.float64]
    loose_box: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Photo:
    """A photograph, uint8 RGB [H, W, 3], and its labelled objects."""

    name: str
    image: UInt8Array
    objects: tuple[PhotoObject, ...]


def open_coco(path: Path = PHOTOS) -> COCO:
    """Open a COCO file without pycocotools' prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def load_photos(path: Path = PHOTOS) -> list[Photo]:
    """Load every photograph that the COCO file beside it lists."""
    coco = open_coco(path)
    photos = []
    for entry in coco.loadImgs(coco.getImgIds()):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=entry["id"]))
        photos.append(
            Photo(
                name=Path(entry["file_name"]).stem,
                image=read_image(path.parent / entry["file_name"]),
                objects=tuple(_photo_object(coco, annotation) for annotation in annotations),
            )
        )
    return photos


def loosened(
    box: npt.NDArray[np.float64], frame: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Move each side of an XYXY box [4] by noise of 5% of its size, within a (width, height)."""
    sides = np.tile(box[2:] - box[:2], 2)
    loose: npt.NDArray[np.float64] = box + rng.normal(0, 0.05, 4) * sides
    return np.clip(loose, 0, np.tile(frame, 2) - 1)


def _photo_object(coco: COCO, annotation: dict[str, Any]) -> PhotoObject:
    x, y, width, height = annotation["bbox"]
    box = np.array([x, y, x + width, y + height], dtype=np.float64)
    entry = coco.loadImgs(annotation["image_id"])[0]
    frame = (entry["width"], entry["height"])
    return PhotoObject(
        name=annotation["name"],
        mask=coco.annToMask(annotation).astype(bool),
        box=box,
        loose_box=loosened(box, frame, np.random.default_rng(annotation["id"])),
        points=np.array(annotation["points"], dtype=np.float64),
    )
