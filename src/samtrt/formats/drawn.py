"""Masks with their labels drawn over the picture."""

from __future__ import annotations

from collections.abc import Sequence

from samtrt.files import printable
from samtrt.formats.annotation import Annotation
from samtrt.masks import drawing
from samtrt.types import UInt8Array


def draw_annotations(pixels: UInt8Array, masks: Sequence[Annotation]) -> UInt8Array:
    """Draw masks, each in its number's colour, the large ones first so that small ones show.

    Returns:
        A new picture, uint8 [H, W, 3].
    """
    order = sorted(range(len(masks)), key=lambda i: -masks[i].area)
    picture = drawing.draw_masks(
        pixels, (masks[i].patch for i in order), [drawing.colour_of(i) for i in order]
    )
    texts = [(one.bbox[:2], label) for one in masks if (label := _text(one))]
    return drawing.draw_labels(picture, texts, in_place=True)


def _text(one: Annotation) -> str:
    if one.label is None:
        return ""
    return printable(one.label) + ("" if one.score is None else f" {one.score:.2f}")
