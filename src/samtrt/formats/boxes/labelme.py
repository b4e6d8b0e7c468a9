"""labelme: shapes of one picture. Shapes of one label and group are one object."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from samtrt.formats.boxes.fitting import count_left_out
from samtrt.formats.boxes.names import parts_of, stem_of
from samtrt.formats.boxes.types import (
    Box,
    Corners,
    Kind,
    Listing,
    NotListed,
    Rows,
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


class Document(Listing):
    """A labelme file."""

    def __init__(self, data: dict[str, Any]) -> None:
        """Read it; raises `Unreadable`."""
        path = data.get("imagePath")
        if isinstance(path, str) and parts_of(path):
            self.pictures = [path]
        self._rows = _read(data)
        self._rows.picture = self.pictures[0] if self.pictures else None

    def rows(self, name: str) -> Rows:
        """Return its boxes; the same name with another suffix gets a notice."""
        if not self.pictures or not parts_of(name):
            return self._rows
        theirs, ours = parts_of(self.pictures[0])[-1], parts_of(name)[-1]
        if theirs == ours:
            return self._rows
        if stem_of(theirs) != stem_of(ours):
            raise NotListed(f"it is of the picture {theirs}, not of {ours}")
        notice = f"the boxes of {theirs} are taken for {ours}"
        return replace(self._rows, notices=[notice, *self._rows.notices])

    def kinds(self) -> Iterable[Kind]:
        """Return what its shapes are of."""
        return ((None, box.label) for box in self._rows.boxes)


def _read(data: dict[str, Any]) -> Rows:
    rows = Rows(declared=size_of(data.get("imageHeight"), data.get("imageWidth"), "its image size"))
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
