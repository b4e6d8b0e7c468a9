"""The columns of tables of boxes, by the names that tools give them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from samtrt.choices import BoxForm
from samtrt.formats.boxes.types import (
    Corners,
    Kind,
    Unreadable,
    from_corners,
    from_sides,
    key_of,
    number,
    numbers,
    text_of,
)

Cells = dict[str, str]
"""A line's cells by the names of their columns."""

_CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIDES = (
    ("x", "y", "w", "h"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
)
_CENTRES = (
    ("cx", "cy", "w", "h"),
    ("x_center", "y_center", "w", "h"),
    ("x_center", "y_center", "width", "height"),
)
IMAGE_SIZES = (("image_height", "image_width"), ("img_height", "img_width"), ("height", "width"))
IMAGES = (
    *("image", "filename", "file_name", "image_name", "imageid", "image_id"),
    *("image_path", "filepath", "path"),
)
_LABELS = ("label", "class", "labelname", "label_name", "class_name", "category", "name")
_CATEGORIES = ("category_id", "class_id")
SCORES = ("score", "confidence", "conf", "probability")
IDS = ("id", "track_id", "annotation_id", "box_id")


def kind_in(header: Sequence[str], cells: Cells) -> Kind:
    """Return what a line's box is of."""
    names = [first_of(header, columns) for columns in (_CATEGORIES, _LABELS)]
    category, label = (cells[name] if name else None for name in names)
    return key_of(category), text_of(label) or text_of(key_of(category))


def corners_in(
    header: Sequence[str], form: BoxForm | None
) -> tuple[Callable[[Cells, str], Corners], set[str]]:
    """Return what makes corners of a line, and the columns that it takes them from."""
    names = set(header)
    for kinds, make in ((_CORNERS, from_corners), (_SIDES, from_sides), (_CENTRES, _from_centre)):
        for columns in kinds:
            if columns and set(columns) <= names:
                return (
                    lambda cells, where, c=columns, m=make: m(
                        *(number(cells[name], where) for name in c), where
                    ),
                    set(columns),
                )
    if "bbox" in names:
        return (lambda cells, where: _from_list(cells["bbox"], where, form)), {"bbox"}
    raise Unreadable(
        "its header has neither x1, y1, x2, y2 nor xmin, ymin, xmax, ymax nor x, y, width, height"
    )


def _from_centre(x: float, y: float, width: float, height: float, where: str) -> Corners:
    return from_sides(x - width / 2, y - height / 2, width, height, where)


def _from_list(cell: str, where: str, form: BoxForm | None) -> Corners:
    """Read a list in a cell: x, y, width, height, as COCO's `bbox`, where nothing else is said."""
    try:
        values = json.loads(cell)
    except (ValueError, RecursionError):
        raise Unreadable(f"{where}: its bbox is no list of numbers") from None
    a, b, c, d = numbers(values, 4, where)
    return maker(form or BoxForm.XYWH)(a, b, c, d, where)


def maker(form: BoxForm | None) -> Callable[[float, float, float, float, str], Corners]:
    """Return what makes corners of four numbers."""
    return from_sides if form is BoxForm.XYWH else from_corners


def first_of(header: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first of `names` that a header has."""
    return next((name for name in names if name in header), None)
