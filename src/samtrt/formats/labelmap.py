"""Masks as one picture whose pixel values are mask numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from samtrt.errors import OutputError
from samtrt.formats.annotation import AnnotatedImage, Categories
from samtrt.masks.drawing import colour_of

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

TEXT = "samtrt:masks"
"""Keyword of the text in the PNG that says what each number is."""


def label_map(image: AnnotatedImage) -> Labels:
    """Give each pixel the number of its mask, 1 for the first; 0 where there is none.

    Where masks overlap, the smaller lies on top.

    Returns:
        uint8 [H, W], or uint16 where there are more than 255 masks.

    Raises:
        OutputError: for more than 65535 masks.
    """
    masks = image.annotations
    if len(masks) > np.iinfo(np.uint16).max:
        raise OutputError(f"a label map has room for 65535 masks, not {len(masks)}")
    labels = np.zeros(image.size, dtype=np.uint8 if len(masks) <= 255 else np.uint16)
    for index in sorted(range(len(masks)), key=lambda i: -masks[i].area):
        x, y, mask = masks[index].patch
        labels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = index + 1
    return labels


def masks_by_number(image: AnnotatedImage, categories: Categories) -> dict[str, Any]:
    """Say what each number of a label map is: its id, label, category and scores."""
    return {
        str(number): {
            **one.facts,
            "label": categories.of(one).name,
            "category_id": categories.of(one).id,
            "predicted_iou": one.more.get("predicted_iou"),
        }
        for number, one in enumerate(image.annotations, start=1)
    }


def save_label_map(path: Path, image: AnnotatedImage, categories: Categories) -> None:
    """Write a label map as PNG: with a palette up to 255 masks, so that viewers show colours.

    NumPy gets the numbers through Pillow (`np.asarray(Image.open(path))`); readers that turn a
    palette into colours by themselves, as `cv2.imread` does, have to be told not to. What each
    number is stands in a text of the file, `Image.open(path).text["samtrt:masks"]`, as JSON.
    """
    picture = Image.fromarray(label_map(image))
    if picture.mode == "L":
        colours = [(0, 0, 0), *(colour_of(i) for i in range(len(image.annotations)))]
        picture.putpalette([value for colour in colours for value in colour])
    text = PngInfo()
    text.add_itxt(TEXT, json.dumps(masks_by_number(image, categories), allow_nan=False), zip=True)
    picture.save(path, format="PNG", pnginfo=text)
