"""Files about all images of a run, written an image at a time, so that memory stays bounded."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from samtrt.choices import OutputFormat
from samtrt.files import printable, write_atomic
from samtrt.formats.annotation import AnnotatedImage, Annotation, Categories
from samtrt.formats.coco import coco_annotation, coco_categories, coco_image
from samtrt.formats.cvat import CvatWriter
from samtrt.formats.labelstudio import label_config, label_studio_task
from samtrt.formats.panoptic import panoptic_categories
from samtrt.formats.yolo import data_yaml


@dataclass(frozen=True)
class Numbered:
    """An image of a dataset with its numbers.

    Attributes:
        image: The picture and its masks.
        number: Its id.
        ids: Those of its masks.
        segments: `segments_info` of its panoptic picture; empty where there is none.
        file: Its files' name, without suffix.
    """

    image: AnnotatedImage
    number: int
    ids: list[int]
    segments: list[dict[str, Any]]
    file: str


class Writer(Protocol):
    """Writes one file."""

    def add(self, one: Numbered) -> None:
        """Write an image."""

    def end(self) -> None:
        """Write what stands after the images."""


class Numbers:
    """Gives images and masks their ids: those that a COCO file gave, else counted from 1."""

    def __init__(self, keep: bool) -> None:
        """Keep ids of masks only where `keep` says that none is there twice."""
        self._keep = keep
        self._images: set[int] = set()
        self._masks = 0

    def image(self, image: AnnotatedImage) -> int:
        """Return an image's id."""
        number = image.more.get("id")
        if type(number) is not int or number in self._images:
            number = len(self._images) + 1
            while number in self._images:
                number += 1
        self._images.add(number)
        return number

    def masks(self, masks: Iterable[Annotation]) -> list[int]:
        """Return the masks' ids."""
        numbers = []
        for one in masks:
            self._masks += 1
            numbers.append(one.id if self._keep and type(one.id) is int else self._masks)
        return numbers


class _CocoFile:
    """A file in COCO's form. Its `images` come last, for they alone are kept in memory."""

    def __init__(
        self, file: TextIO, info: dict[str, Any], categories: list[dict[str, Any]]
    ) -> None:
        self._file, self._separator = file, "\n"
        self._images: list[str] = []
        head = {"info": info, "licenses": [], "categories": categories}
        file.write(_json(head)[:-1] + ',"annotations":[')

    def _write(self, one: Numbered, annotations: Iterable[dict[str, Any]]) -> None:
        self._images.append(_json(coco_image(one.image, one.number)))
        for entry in annotations:
            self._file.write(self._separator + _json(entry))
            self._separator = ",\n"

    def end(self) -> None:
        """Write the images."""
        self._file.write('\n],"images":[\n' + ",\n".join(self._images) + "\n]}\n")


class CocoWriter(_CocoFile):
    """`annotations.json`."""

    def __init__(
        self, file: TextIO, categories: Categories, info: dict[str, Any], polygons: bool
    ) -> None:
        super().__init__(file, info, coco_categories(categories))
        self._categories, self._polygons = categories, polygons

    def add(self, one: Numbered) -> None:
        """Write an image's masks."""
        self._write(
            one,
            (
                coco_annotation(mask, self._categories, number, one.number, self._polygons)
                for number, mask in zip(one.ids, one.image.annotations, strict=True)
            ),
        )


class PanopticWriter(_CocoFile):
    """`panoptic.json`."""

    def __init__(self, file: TextIO, categories: Categories, info: dict[str, Any]) -> None:
        super().__init__(file, info, panoptic_categories(categories))

    def add(self, one: Numbered) -> None:
        """Write an image's segments."""
        picture = one.file + ".png"
        entry = {"image_id": one.number, "file_name": picture, "segments_info": one.segments}
        self._write(one, [entry])


class CvatFile:
    """`cvat.xml`."""

    def __init__(self, file: TextIO, categories: Categories) -> None:
        self._writer = CvatWriter(file, categories)

    def add(self, one: Numbered) -> None:
        """Write an image."""
        self._writer.add(one.image)

    def end(self) -> None:
        """Close the document."""
        self._writer.end()


class LabelStudioWriter:
    """`labelstudio.json`."""

    def __init__(self, file: TextIO, categories: Categories) -> None:
        self._file, self._categories = file, categories
        self._separator = "[\n"

    def add(self, one: Numbered) -> None:
        """Write an image's task."""
        self._file.write(self._separator + _json(label_studio_task(one.image, self._categories)))
        self._separator = ",\n"

    def end(self) -> None:
        """Close the list."""
        self._file.write("\n]\n" if self._separator == ",\n" else "[]\n")


class FactsWriter:
    """`yolo/facts.csv`: what YOLO's lines have no room for."""

    def __init__(self, file: TextIO, categories: Categories) -> None:
        self._csv, self._categories = csv.writer(file, lineterminator="\n"), categories
        self._csv.writerow(["file", "line", "id", "label", "category_id", "score", "predicted_iou"])

    def add(self, one: Numbered) -> None:
        """Write a row for each line of an image's labels."""
        masks = [mask for mask in one.image.annotations if mask.area]
        for line, mask in enumerate(masks, start=1):
            category = self._categories.of(mask)
            facts = (mask.score, mask.more.get("predicted_iou"))
            self._csv.writerow(
                [
                    printable(f"{one.file}.txt"),
                    line,
                    mask.id,
                    printable(category.name),
                    category.id,
                    *facts,
                ]
            )

    def end(self) -> None:
        """All is written."""


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def write_merged(
    directory: Path | None,
    annotations: Path,
    formats: Iterable[OutputFormat],
    images: Iterable[Numbered],
    categories: Categories,
    info: dict[str, Any],
    polygons: bool,
) -> None:
    """Write all files about all images, each whole or not at all.

    Args:
        directory: Where the formats' files go; None writes COCO alone.
        annotations: Where the COCO dataset goes.
        formats: What was asked for.
        images: Gone through once.
        categories: Of the dataset.
        info: What COCO files say of their making.
        polygons: COCO masks as polygons instead of RLE.

    Raises:
        OutputError: where a file cannot be written.
    """
    chosen = set(formats) if directory else set()
    with ExitStack() as stack:
        writers: list[Writer] = []

        def opened(path: Path) -> TextIO:
            return stack.enter_context(_text_file(path))

        writers.append(CocoWriter(opened(annotations), categories, info, polygons))
        if directory and OutputFormat.PANOPTIC in chosen:
            writers.append(PanopticWriter(opened(directory / "panoptic.json"), categories, info))
        if directory and OutputFormat.CVAT in chosen:
            writers.append(CvatFile(opened(directory / "cvat.xml"), categories))
        if directory and OutputFormat.LABELSTUDIO in chosen:
            writers.append(LabelStudioWriter(opened(directory / "labelstudio.json"), categories))
            opened(directory / "labelstudio.xml").write(label_config(categories))
        if directory and OutputFormat.YOLO in chosen:
            writers.append(FactsWriter(opened(directory / "yolo" / "facts.csv"), categories))
            opened(directory / "yolo" / "data.yaml").write(data_yaml(categories))
        for one in images:
            for writer in writers:
                writer.add(one)
        for writer in writers:
            writer.end()


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    with write_atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file
