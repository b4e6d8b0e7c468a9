"""One mask of an image, as files and the official generator describe it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from PIL import Image

from samtrt.masks import rle
from samtrt.masks.rle import Patch, Rle
from samtrt.masks.showing import as_png, over
from samtrt.types import BoolArray, UInt8Array


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


class MaskRecords(list[MaskRecord]):
    """The masks of one image, a list that shows itself in a notebook, large masks below small."""

    def plot(self, image: UInt8Array | None = None) -> Image.Image:
        """Draw all masks over their image, uint8 [H, W, 3], or over grey.

        Raises:
            ImageError: where the image is not of the masks' size.
        """
        if not self:
            return over(image, (), image.shape[:2] if image is not None else (1, 1))
        first = rle.of(self[0]["segmentation"])
        return over(image, self._patches(), tuple(first["size"]))

    def _patches(self) -> Iterator[Patch]:
        for record in sorted(self, key=lambda one: -one["area"]):
            yield rle.cut(rle.of(record["segmentation"]))

    def _repr_png_(self) -> bytes:
        """Return what Jupyter shows."""
        return as_png(self.plot())
