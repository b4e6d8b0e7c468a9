"""Contact sheets: one row for each labelled object, one cell for each method's mask.

An overview shows the hand-drawn masks alone, for many photographs at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from photo_set import Photo, PhotoObject
from samtrt.masks.drawing import draw_box, draw_masks, draw_points
from samtrt.masks.logits import mask_iou
from samtrt.types import BoolArray, UInt8Array

CELL = 176
"""Side of a cell's picture in pixels."""
TEXT = 14
"""Height of the line under it."""
TILE = 300
"""Longest side of a photograph in an overview, in pixels."""

REFERENCE = (0, 220, 90)
PREDICTED = (40, 140, 255)


def draw_sheet(
    photo: Photo,
    results: Sequence[tuple[PhotoObject, Mapping[str, BoolArray]]],
    titles: Mapping[str, str],
) -> Image.Image:
    """Draw the reference and every mask of every object, each with its prompt and its IoU.

    Args:
        photo: The photograph.
        results: Its objects, each with masks by "prompt/method".
        titles: The keys to show, in this order, and what to call them.
    """
    width, height = CELL + 4, CELL + TEXT + 4
    sheet = Image.new("RGB", (width * (len(titles) + 1), TEXT + height * len(results)), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(10.5)
    for column, title in enumerate(["drawn by hand", *titles.values()]):
        pen.text((column * width + 2, 0), title, "black", font)
    for row, (item, masks) in enumerate(results):
        top = TEXT + row * height
        cells = [(item.name, _cell(photo.image, item, item.mask, "reference"))]
        for key in titles:
            caption = f"IoU {mask_iou(masks[key], item.mask):.2f}"
            cells.append((caption, _cell(photo.image, item, masks[key], key.partition("/")[0])))
        for column, (caption, picture) in enumerate(cells):
            left = column * width
            offset = ((CELL - picture.width) // 2, (CELL - picture.height) // 2)
            sheet.paste(picture, (left + offset[0], top + offset[1]))
            pen.text((left + 2, top + CELL), caption, "black", font)
    return sheet


def draw_overview(photos: Sequence[Photo], columns: int = 4) -> Image.Image:
    """Draw every photograph with its reference masks, large ones first, one colour for each."""
    sheet = Image.new("RGB", (TILE * columns, TILE * math.ceil(len(photos) / columns)), "white")
    for index, photo in enumerate(photos):
        masks = sorted((item.mask for item in photo.objects), key=lambda mask: -int(mask.sum()))
        tile = Image.fromarray(draw_masks(photo.image, masks))
        tile.thumbnail((TILE - 4, TILE - 4))
        row, column = divmod(index, columns)
        offset = ((TILE - tile.width) // 2, (TILE - tile.height) // 2)
        sheet.paste(tile, (column * TILE + offset[0], row * TILE + offset[1]))
    return sheet


def _cell(image: UInt8Array, item: PhotoObject, mask: BoolArray, prompt: str) -> Image.Image:
    """Crop around the object, enlarge, and draw the mask and the prompt that it came from."""
    x1, y1, x2, y2 = item.box
    margin = 0.2 * max(x2 - x1, y2 - y1) + 8
    left, top = (max(int(side - margin), 0) for side in (x1, y1))
    region = (slice(top, int(y2 + margin)), slice(left, int(x2 + margin)))
    crop = image[region]
    scale = CELL / max(crop.shape[:2])
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    enlarged = np.asarray(cv2.resize(crop, size, interpolation=how), dtype=np.uint8)
    shape = cv2.resize(mask[region].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    colour = REFERENCE if prompt == "reference" else PREDICTED
    picture = draw_masks(enlarged, [shape.astype(bool)], [colour])
    origin = np.array([left, top])
    if prompt == "box":
        corners = (item.box.reshape(2, 2) - origin) * scale
        picture = draw_box(picture, corners.ravel())
    elif prompt in ("point", "points"):
        points = item.points[:1] if prompt == "point" else item.points
        picture = draw_points(picture, (points - origin) * scale, np.ones(len(points)))
    return Image.fromarray(picture)
