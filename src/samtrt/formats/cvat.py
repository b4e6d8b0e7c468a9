"""Masks as "CVAT for images 1.1" XML: lossless, holes too."""

from __future__ import annotations

from typing import Any, TextIO, cast
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

import numpy as np

from samtrt._version import __version__
from samtrt.files import printable
from samtrt.formats.annotation import AnnotatedImage, Annotation, Categories
from samtrt.masks.drawing import colour_of

_ATTRIBUTES = ("score", "predicted_iou", "id")
"""What each label has beside its name; texts in CVAT, of which numbers must be whole."""


class CvatWriter:
    """Writes one file of many images, an image at a time."""

    def __init__(self, file: TextIO, categories: Categories) -> None:
        """Write what stands before the images."""
        self._xml = XMLGenerator(cast(Any, file), encoding="utf-8", short_empty_elements=True)
        self._categories = categories
        self._images = 0
        self._xml.startDocument()
        self._open("annotations")
        self._text("version", "1.1")
        self._open("meta")
        self._text("dumped_by", f"samtrt {__version__}")
        self._open("task")
        self._open("labels")
        for index, category in enumerate(categories.all):
            self._open("label")
            self._text("name", printable(category.name))
            self._text("color", "#" + "".join(f"{part:02x}" for part in colour_of(index)))
            self._text("type", "mask")
            self._open("attributes")
            for name in _ATTRIBUTES:
                self._open("attribute")
                for key, value in (
                    ("name", name),
                    ("mutable", "False"),
                    ("input_type", "text"),
                    ("default_value", ""),
                    ("values", ""),
                ):
                    self._text(key, value)
                self._close("attribute")
            self._close("attributes", "label")
        self._close("labels", "task", "meta")

    def add(self, image: AnnotatedImage) -> None:
        """Write one image. An empty mask has no element."""
        height, width = image.size
        self._open(
            "image",
            id=self._images,
            name=printable(image.file_name),
            width=width,
            height=height,
        )
        self._images += 1
        for order, one in enumerate(image.annotations):
            if one.area:
                self._mask(one, order)
        self._close("image")

    def end(self) -> None:
        """Write what stands after the images."""
        self._close("annotations")
        self._xml.endDocument()

    def _mask(self, one: Annotation, order: int) -> None:
        x, y, mask = one.patch
        # Lengths of runs in the mask's box, row by row, background first.
        flat = np.concatenate([[False], mask.ravel(), [not mask[-1, -1]]])
        runs = np.diff(np.flatnonzero(flat[1:] != flat[:-1]), prepend=0)
        self._open(
            "mask",
            label=printable(self._categories.of(one).name),
            source="auto",
            occluded=0,
            rle=", ".join(map(str, runs.tolist())),
            left=x,
            top=y,
            width=mask.shape[1],
            height=mask.shape[0],
            z_order=order,
        )
        values = (one.score, one.more.get("predicted_iou"), one.id)
        for name, value in zip(_ATTRIBUTES, values, strict=True):
            if value is not None:
                self._text("attribute", printable(value), name=name)
        self._close("mask")

    def _open(self, tag: str, /, **attributes: Any) -> None:
        values = {key: str(value) for key, value in attributes.items()}
        self._xml.startElement(tag, AttributesImpl(values))

    def _close(self, *names: str) -> None:
        for name in names:
            self._xml.endElement(name)
        self._xml.ignorableWhitespace("\n")

    def _text(self, tag: str, text: str, /, **attributes: Any) -> None:
        self._open(tag, **attributes)
        self._xml.characters(text)
        self._xml.endElement(tag)
