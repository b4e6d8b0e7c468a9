"""Boxes as plain JSON: a list of them, or lists of boxes, labels and scores side by side."""

from __future__ import annotations

from typing import Any

from samtrt.choices import BoxForm
from samtrt.formats.boxes.types import (
    Box,
    Rows,
    Unreadable,
    from_corners,
    from_sides,
    items,
    key_of,
    mapping,
    numbers,
    score_of,
    size_of,
    text_of,
)


def read_lists(data: dict[str, Any], form: BoxForm | None) -> Rows:
    """Read `boxes` with `labels`, `scores` and `ids` where there are such; raises `Unreadable`."""
    boxes = items(data["boxes"], "'boxes'")
    sides: dict[str, list[Any]] = {}
    for name in ("labels", "scores", "ids"):
        sides[name] = items(data.get(name) or [None] * len(boxes), f"'{name}'")
        if len(sides[name]) != len(boxes):
            raise Unreadable(f"{len(boxes)} boxes and {len(sides[name])} {name}")
    image = mapping(data.get("image", data) if isinstance(data.get("image"), dict) else data, "it")
    rows = read_list(boxes, form)
    rows.declared = size_of(image.get("height"), image.get("width"), "its image size")
    rows.boxes = [
        Box(
            box.corners,
            text_of(label),
            key_of(label) if isinstance(label, int) else None,
            score_of(score, box.where),
            key_of(id_),
            box.where,
        )
        for box, label, score, id_ in zip(rows.boxes, *sides.values(), strict=True)
    ]
    return rows


def read_list(data: list[Any], form: BoxForm | None) -> Rows:
    """Read a list of boxes, or one box alone; raises `Unreadable`."""
    single = len(data) == 4 and not any(isinstance(side, list) for side in data)
    rows = Rows()
    for place, box in enumerate([data] if single else data):
        where = f"box {place}"
        if not isinstance(box, list) or len(box) != 4:
            raise Unreadable(f"{where} is not four numbers")
        a, b, c, d = numbers(box, 4, where)
        make = from_sides if form is BoxForm.XYWH else from_corners
        rows.boxes.append(Box(make(a, b, c, d, where), where=where))
    return rows
