"""labelme: shapes of one picture. Shapes of one label and group are one object."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from samtrt.formats.boxes.fitting import count_left_out
from samtrt.formats.boxes.names import parts_of, stem_of
from samtrt.formats.boxes.types import (
    Box,
    Corners,
    Rows,
    Subject,
    Unreadable,
    around,
    items,
    key_of,
    mapping,
    score_of,
    size_of,
    text_of,
)

_NO_BOX = ("point", "points", "line", "linestrip")


def read_labelme(data: dict[str, Any], subject: Subject) -> Rows:
    """Read a labelme file; raises `Unreadable`."""
    rows = Rows(declared=size_of(data.get("imageHeight"), data.get("imageWidth"), "its image size"))
    _check_picture(data.get("imagePath"), subject, rows)
    grouped: dict[Any, Box] = {}
    left = []
    for place, entry in enumerate(items(data["shapes"], "'shapes'")):
        where = f"shape {place}"
        shape = mapping(entry, where)
        corners = _corners(shape, where)
        group = key_of(shape.get("group_id"))
        label = text_of(shape.get("label"))
        score = score_of(shape.get("score"), where)
        box = Box(corners, label, None, score, group, where)
        if shape.get("shape_type") in _NO_BOX:
            left.append(where)
            continue
        key = (label, group) if group is not None else (place,)
        grouped[key] = _joined(grouped[key], box) if key in grouped else box
    rows.boxes = list(grouped.values())
    if left:
        rows.notices.append(count_left_out(left, "point or line"))
    return rows


def _check_picture(path: Any, subject: Subject, rows: Rows) -> None:
    """Refuse a file of another picture; the same name with another suffix gets a notice."""
    if not isinstance(path, str) or not parts_of(path) or not parts_of(subject.name):
        return
    theirs, ours = parts_of(path)[-1], parts_of(subject.name)[-1]
    if theirs == ours:
        return
    if stem_of(theirs) != stem_of(ours):
        raise Unreadable(f"it is of the picture {theirs}, not of {ours}")
    rows.notices.append(f"the boxes of {theirs} are taken for {ours}")


def _corners(shape: dict[str, Any], where: str) -> Corners:
    """Take the box around a shape's points; a circle is its centre and a point on its rim."""
    corners = around(shape.get("points"), where)
    if shape.get("shape_type") == "circle":
        points = shape["points"]
        if len(points) != 2:
            raise Unreadable(f"{where}: a circle is two points, not {len(points)}")
        (x, y), (rim_x, rim_y) = ((float(a), float(b)) for a, b in points)
        radius = math.hypot(rim_x - x, rim_y - y)
        corners = x - radius, y - radius, x + radius, y + radius
    return corners


def _joined(one: Box, other: Box) -> Box:
    """Return the box around two."""
    (a, b, c, d), (e, f, g, h) = one.corners, other.corners
    return replace(one, corners=(min(a, e), min(b, f), max(c, g), max(d, h)))
