"""The files of one image, by format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from samtrt.choices import OutputFormat
from samtrt.formats.annotation import AnnotatedImage, Categories
from samtrt.formats.drawn import draw_annotations
from samtrt.formats.geo import save_geojson, save_geotiff
from samtrt.formats.labelmap import save_label_map
from samtrt.formats.labelme import labelme_document
from samtrt.formats.panoptic import save_panoptic
from samtrt.formats.polygons import Outline
from samtrt.formats.yolo import yolo_labels
from samtrt.types import UInt8Array

PLACES = {
    OutputFormat.OVERLAY: ("overlay", ".png"),
    OutputFormat.LABELMAP: ("labelmap", ".png"),
    OutputFormat.LABELME: ("labelme", ".json"),
    OutputFormat.YOLO: ("yolo/labels", ".txt"),
    OutputFormat.PANOPTIC: ("panoptic", ".png"),
    OutputFormat.GEOJSON: ("geojson", ".geojson"),
    OutputFormat.GEOTIFF: ("geotiff", ".tif"),
}
"""Folder and suffix of each format that has a file an image."""


def write_image_file(
    temporary: Path,
    kind: OutputFormat,
    image: AnnotatedImage,
    picture: Path,
    pixels: UInt8Array | None,
    link: str,
    categories: Categories,
    outline: Outline,
) -> list[dict[str, Any]] | None:
    """Write one file of an image.

    Args:
        temporary: Where.
        kind: A format of `PLACES`; an overlay needs pixels.
        image: Its size and masks.
        picture: Where it was read, which may say where on the earth it lies.
        pixels: uint8 [H, W, 3]; None of an embedding.
        link: What leads from the file to the picture.
        categories: The classes of masks.
        outline: How near polygons follow the masks.

    Returns:
        Of a panoptic picture the segments.
    """
    if kind is OutputFormat.OVERLAY and pixels is not None:
        drawn = draw_annotations(pixels, image.annotations)
        # To be looked at: 13 % larger than usual, in a quarter of the time.
        Image.fromarray(drawn).save(temporary, format="PNG", compress_level=1)
    elif kind is OutputFormat.LABELMAP:
        save_label_map(temporary, image, categories)
    elif kind is OutputFormat.LABELME:
        document = labelme_document(image, link, categories, outline)
        temporary.write_text(as_json(document), encoding="utf-8")
    elif kind is OutputFormat.YOLO:
        temporary.write_text(yolo_labels(image, categories), encoding="utf-8")
    elif kind is OutputFormat.PANOPTIC:
        return save_panoptic(temporary, image, categories)
    elif kind is OutputFormat.GEOJSON:
        save_geojson(temporary, image, categories, picture)
    elif kind is OutputFormat.GEOTIFF:
        save_geotiff(temporary, image, categories, picture)
    return None


def as_json(data: dict[str, Any]) -> str:
    """Return JSON on one line."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n"
