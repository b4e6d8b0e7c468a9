"""VGG Image Annotator 2: regions of a picture, in its CSV and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from samtrt.formats.boxes.fitting import count_left_out
from samtrt.formats.boxes.names import Names
from samtrt.formats.boxes.types import (
    Box,
    Corners,
    Kind,
    Listing,
    Rows,
    Unreadable,
    around,
    from_sides,
    mapping,
    number,
    text_of,
)

CSV_COLUMNS = {"filename", "region_shape_attributes"}
_NO_BOX = ("point", "polyline")


def is_via(data: dict[str, Any]) -> bool:
    """Tell whether a JSON object is VIA's: a project, or its annotations by file name and size."""
    return "_via_img_metadata" in data or (
        bool(data) and all(isinstance(v, dict) and "regions" in v for v in data.values())
    )


class Project(Listing):
    """A project of VIA, or its exported annotations."""

    def __init__(self, data: dict[str, Any]) -> None:
        """Index it by pictures; raises `Unreadable`."""
        entries = mapping(data.get("_via_img_metadata", data), "'_via_img_metadata'").values()
        self._entries = [mapping(entry, "an image") for entry in entries]
        self._index = Names([str(entry.get("filename", "")) for entry in self._entries])
        self.pictures = self._index.pictures

    def rows(self, name: str) -> Rows:
        """Take one picture's regions; raises `Unreadable`."""
        found, notice = self._index.find(name)
        if len(found) > 1:
            raise Unreadable(f"it has {self._entries[found[0]]['filename']} twice")
        given = []
        for place, entry in enumerate(_regions(self._entries[found[0]]) if found else []):
            region = mapping(entry, f"region {place}")
            given.append(
                (
                    f"region {place}",
                    mapping(region.get("shape_attributes"), f"region {place}: its shape"),
                    region.get("region_attributes"),
                )
            )
        rows = _rows(given, notice)
        rows.picture = str(self._entries[found[0]].get("filename", "")) if found else None
        return rows

    def kinds(self) -> Iterable[Kind]:
        """Return what its regions are of."""
        for entry in self._entries:
            for region in _regions(entry):
                if isinstance(region, dict):
                    yield None, label_of(region.get("region_attributes"))


def _regions(entry: dict[str, Any]) -> list[Any]:
    regions = entry.get("regions", [])
    if isinstance(regions, dict):  # VIA 1
        return list(regions.values())
    return regions if isinstance(regions, list) else []


def read_cells(lines: list[tuple[int, dict[str, str]]]) -> Rows:
    """Read the rows of one picture of a VIA table; raises `Unreadable`."""
    given = []
    for line, cells in lines:
        where = f"line {line}"
        try:
            shape = json.loads(cells["region_shape_attributes"] or "{}")
            attributes = json.loads(cells.get("region_attributes") or "{}")
        except (ValueError, RecursionError):
            raise Unreadable(f"{where}: a cell of VIA is not JSON") from None
        if shape:  # a picture without regions has a row of its own
            given.append((where, mapping(shape, where), attributes))
    return _rows(given)


def kind_of(cells: dict[str, str]) -> Kind:
    """Return what a row of a VIA table is of."""
    try:
        return None, label_of(json.loads(cells.get("region_attributes") or "{}"))
    except (ValueError, RecursionError):
        return None, None


def _rows(given: list[tuple[str, dict[str, Any], Any]], notice: str = "") -> Rows:
    rows, left = Rows(notices=[notice] if notice else []), []
    for where, shape, attributes in given:
        box = Box(_corners(shape, where), label_of(attributes), where=where)
        if shape.get("name") in _NO_BOX:
            left.append(where)
        else:
            rows.boxes.append(box)
    if left:
        rows.notices.append(count_left_out(left, "point or line"))
    return rows


def _corners(shape: dict[str, Any], where: str) -> Corners:
    def side(name: str) -> float:
        if name not in shape:
            raise Unreadable(f"{where}: {name!r} is missing")
        return number(shape[name], where)

    match shape.get("name"):
        case "rect":
            return from_sides(side("x"), side("y"), side("width"), side("height"), where)
        case "polygon" | "polyline":
            xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
            if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
                raise Unreadable(f"{where}: a polygon has not as many x as y")
            return around(list(zip(xs, ys, strict=True)), where)
        case "circle" | "ellipse" as name:
            across = side("r" if name == "circle" else "rx")
            down = side("r" if name == "circle" else "ry")
            left, top = side("cx") - across, side("cy") - down
            return from_sides(left, top, 2 * across, 2 * down, where)
        case "point":
            return side("cx"), side("cy"), side("cx"), side("cy")
        case name:
            raise Unreadable(f"{where}: {name!r} is no shape of VIA")


def label_of(attributes: Any) -> str | None:
    """Return a region's class: the attribute called so, or the only one."""
    if not isinstance(attributes, dict):
        return None
    for name in ("class", "label", "name", "type", "category"):
        if isinstance(attributes.get(name), str):
            return text_of(attributes[name])
    values = [value for value in attributes.values() if isinstance(value, str) and value]
    return values[0] if len(values) == 1 else None
