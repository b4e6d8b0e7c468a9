"""The files of a run of automatic masks: what is written for each image, and what a restart skips.

OUT/annotations.json     COCO dataset of all images of the run
OUT/coco/NAME.json       COCO dataset of one image; written last, it marks the image as done
OUT/overlay/NAME.png     the picture with its masks drawn
OUT/labelmap/NAME.png    mask numbers, 8 bits a pixel or, with more than 255 masks, 16
OUT/labelme/NAME.json    polygons for labelme
OUT/yolo/NAME.txt        polygons for YOLO segmentation
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.embeddings import is_embedding_file, read_embedding_info
from samtrt.errors import ImageError, OutputError
from samtrt.files import sha256_of, write_atomic
from samtrt.formats.coco import coco_dataset, merge_coco
from samtrt.formats.labelmap import label_map
from samtrt.formats.labelme import labelme_document
from samtrt.formats.yolo import yolo_labels
from samtrt.masks import rle
from samtrt.masks.drawing import colour_of, draw_masks
from samtrt.masks.record import MaskRecord
from samtrt.types import Size, UInt8Array


class AutoFormat(str, Enum):
    """What `samtrt auto` writes beside COCO JSON, each in a directory of its name."""

    OVERLAY = "overlay"
    LABELMAP = "labelmap"
    LABELME = "labelme"
    YOLO = "yolo"


_SUFFIXES = {
    AutoFormat.OVERLAY: ".png",
    AutoFormat.LABELMAP: ".png",
    AutoFormat.LABELME: ".json",
    AutoFormat.YOLO: ".txt",
}


@dataclass(frozen=True)
class AutoOutput:
    """Writes results under one directory.

    Attributes:
        directory: OUT.
        formats: What to write beside COCO JSON.
        settings: All that the masks depend on beside the image: model, precision, thresholds.
            Results of other settings do not count as done.
    """

    directory: Path
    formats: Sequence[AutoFormat]
    settings: dict[str, Any]

    def path(self, source: Path, kind: AutoFormat) -> Path:
        """Return where `source`'s file of a format goes."""
        return self.directory / kind.value / (source.stem + _SUFFIXES[kind])

    def marker(self, source: Path) -> Path:
        """Return where `source`'s COCO JSON goes."""
        return self.directory / "coco" / f"{source.stem}.json"

    def formats_of(self, source: Path) -> list[AutoFormat]:
        """Return the formats that can be written: an embedding has no pixels to draw on."""
        return [
            kind
            for kind in self.formats
            if kind is not AutoFormat.OVERLAY or not is_embedding_file(source)
        ]

    def is_done(self, source: Path) -> bool:
        """Tell whether every file of `source` is there, made of this image with these settings."""
        if not all(self.path(source, kind).is_file() for kind in self.formats_of(source)):
            return False
        dataset = _read_dataset(self.marker(source))
        if dataset is None:
            return False
        try:
            return bool(dataset.get("info") == self._info(source))
        except ImageError:  # whoever reads the image next will report it
            return False

    def write(
        self, source: Path, records: Sequence[MaskRecord], size: Size, pixels: UInt8Array | None
    ) -> None:
        """Write one image's files, each whole or not at all.

        Args:
            source: The image or embedding.
            records: Its masks, `output_mode="coco_rle"`.
            size: (height, width) of the image.
            pixels: The image, RGB; None for an embedding.

        Raises:
            OutputError: where a file cannot be written.
        """
        name = read_embedding_info(source).image_name if is_embedding_file(source) else source.name
        for kind in self.formats_of(source):
            path = self.path(source, kind)
            if kind is AutoFormat.OVERLAY and pixels is not None:
                _write_png(path, draw_records(pixels, records))
            elif kind is AutoFormat.LABELMAP:
                _write_png(path, label_map(records, size))
            elif kind is AutoFormat.LABELME:
                picture = os.path.relpath(source.with_name(name).resolve(), path.parent.resolve())
                _write_json(path, labelme_document(records, Path(picture).as_posix(), size))
            elif kind is AutoFormat.YOLO:
                _write_text(path, yolo_labels(records, size))
        _write_json(self.marker(source), coco_dataset(records, name, size, self._info(source)))

    def merge(self, sources: Sequence[Path]) -> Path:
        """Write `annotations.json` from the images of this run that are done."""
        datasets = (_read_dataset(self.marker(s)) for s in sources if self.is_done(s))
        path = self.directory / "annotations.json"
        _write_json(path, merge_coco(dataset for dataset in datasets if dataset is not None))
        return path

    def _info(self, source: Path) -> dict[str, Any]:
        try:
            return {**self.settings, "source": source.name, "source_sha256": sha256_of(source)}
        except OSError as error:
            raise ImageError(f"cannot read {source}: {error.strerror or error}") from None


def draw_records(pixels: UInt8Array, records: Sequence[MaskRecord]) -> UInt8Array:
    """Draw masks, each in its number's colour, the large ones first so that small ones show."""
    order = sorted(range(len(records)), key=lambda i: -records[i]["area"])
    masks = (rle.decode(rle.of(records[i]["segmentation"])) for i in order)
    return draw_masks(pixels, masks, [colour_of(i) for i in order])


def _read_dataset(path: Path) -> dict[str, Any] | None:
    """Read one image's COCO JSON; None where it is missing or damaged, and must be made again."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(data, dict) and len(data.get("images", ())) == 1 and "annotations" in data
    return data if whole else None


def _write_json(path: Path, data: dict[str, Any]) -> None:
    _write_text(path, json.dumps(data, separators=(",", ":")) + "\n")


def _write_text(path: Path, text: str) -> None:
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_png(path: Path, picture: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
    with write_atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def check_directory(path: Path) -> None:
    """Raise `OutputError` before any work where `path` cannot become the output directory."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write into {path}: {error.strerror or error}") from None
