"""Boxes in CSV files: with a header that names the columns, or without."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from samtrt.choices import BoxForm
from samtrt.formats.boxes import via
from samtrt.formats.boxes.fitting import count_left_out
from samtrt.formats.boxes.names import matches
from samtrt.formats.boxes.types import (
    Box,
    Corners,
    Rows,
    Subject,
    Unreadable,
    from_corners,
    from_sides,
    key_of,
    number,
    numbers,
    score_of,
    size_of,
    text_of,
)

Cells = dict[str, str]
Line = tuple[int, list[str]]
"""A line's number in the file and its cells."""

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
_IMAGE_SIZES = (("image_height", "image_width"), ("img_height", "img_width"), ("height", "width"))
_IMAGES = (
    *("image", "filename", "file_name", "image_name", "imageid", "image_id"),
    *("image_path", "filepath", "path"),
)
_LABELS = ("label", "class", "labelname", "label_name", "class_name", "category", "name")
_CATEGORIES = ("category_id", "class_id")
_SCORES = ("score", "confidence", "conf", "probability")
_IDS = ("id", "track_id", "annotation_id", "box_id")


def read_table(text: str, subject: Subject, form: BoxForm | None) -> Rows:
    """Read a CSV file's boxes of one picture; raises `Unreadable`."""
    lines = _lines(text)
    if not lines:
        return Rows()
    header, data, notices = _header(lines)
    if header is None:
        rows = _headless(data, subject, form or BoxForm.XYXY)
    else:
        rows = _with_header(header, data, subject, form)
    rows.notices = notices + rows.notices
    _settle_units(rows)
    return rows


def _lines(text: str) -> list[Line]:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = next((sign for sign in ("\t", ";") if sign in first and "," not in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[Line] = []
    try:
        lines.extend(
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)
        )
    except csv.Error as error:
        raise Unreadable(f"line {reader.line_num}: {error}") from None
    return lines


def _header(lines: list[Line]) -> tuple[list[str] | None, list[Line], list[str]]:
    """Return the names of the columns, if the first line has any, the other lines, and notices."""
    first = lines[0][1]
    counted = [str(i) for i in range(len(first))]
    if first == counted and len(first) >= 4 and len(lines) > 1:
        return None, lines[1:], ["line 1 is read as a header that counts the columns"]
    if first[0] == "" and first[1:] == counted[:-1] and len(first) >= 5:
        return None, [(line, cells[1:]) for line, cells in lines[1:]], []
    if _are_numbers(first[:4]) or (len(first) >= 5 and _are_numbers(first[1:5])):
        return None, lines, []
    header = [cell.lower().lstrip("#").strip().replace(" ", "_") for cell in first]
    named = [name for name in header if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise Unreadable(f"its header has {twice} twice")
    return header, lines[1:], []


def _headless(lines: list[Line], subject: Subject, form: BoxForm) -> Rows:
    """Read the columns [image,] x1, y1, x2, y2 [, confidence] [, label]."""
    notices = []
    if not _are_numbers(lines[0][1][:1]):
        found, notice = matches([cells[0] for _, cells in lines], subject.name)
        lines = [(lines[i][0], lines[i][1][1:]) for i in found]
        lines = [line for line in lines if any(line[1])]  # an image without boxes has a line too
        notices = [notice] if notice else []
    elif _has_index(lines, form):
        lines = [(line, cells[1:]) for line, cells in lines]
        notices = ["the first column is read as an index, which is left out"]
    return Rows([_headless_box(line, form) for line in lines], notices=notices)


def _headless_box(numbered: Line, form: BoxForm) -> Box:
    line, cells = numbered
    where = f"line {line}"
    corners = _four(cells, where, form)
    rest = cells[4:]
    score = rest.pop(0) if rest and (len(rest) == 2 or _is_fraction(rest[0])) else None
    if len(rest) > 1:
        raise Unreadable(f"{where}: it has {len(cells)} columns; give the file a header")
    label = text_of(rest[0]) if rest else None
    category = key_of(label) if label and label.isdigit() else None
    return Box(corners, label, category, score_of(score, where), None, where)


def _four(cells: Sequence[str], where: str, form: BoxForm) -> Corners:
    if len(cells) < 4:
        raise Unreadable(f"{where}: {len(cells)} columns are no box: a box is four numbers")
    a, b, c, d = (number(cell, where) for cell in cells[:4])
    return _make(form)(a, b, c, d, where)


def _make(form: BoxForm | None) -> Callable[[float, float, float, float, str], Corners]:
    return from_sides if form is BoxForm.XYWH else from_corners


def _has_index(lines: list[Line], form: BoxForm) -> bool:
    """Tell whether the first of five or more columns counts the lines, as pandas writes it.

    Raises:
        Unreadable: where it may be an index or the first corner.
    """
    counts = [cells[0] for _, cells in lines]
    wide = all(len(cells) >= 5 and _are_numbers(cells[:5]) for _, cells in lines)
    if not wide or counts not in (
        [str(i) for i in range(len(lines))],
        [str(i + 1) for i in range(len(lines))],
    ):
        return False
    readings = []
    for skip in (0, 1):
        try:
            for line, cells in lines:
                x1, y1, x2, y2 = _headless_box((line, cells[skip:]), form).corners
                if x2 == x1 or y2 == y1:
                    raise Unreadable("a box without area")
            readings.append(skip)
        except Unreadable:
            continue
    if len(readings) == 2:
        raise Unreadable(
            f"line {lines[0][0]}: the first column may be an index or x1; give the file a header, "
            "such as x1,y1,x2,y2,label"
        )
    return readings == [1]


def _with_header(
    header: list[str], lines: list[Line], subject: Subject, form: BoxForm | None
) -> Rows:
    """Read columns by their names."""
    for line, row in lines:
        if len(row) != len(header):
            raise Unreadable(f"line {line}: {len(row)} columns, and the header has {len(header)}")
    table = [(line, dict(zip(header, row, strict=True))) for line, row in lines]
    notice = ""
    if (image := _first(header, _IMAGES)) and table:
        found, notice = matches([cells[image] for _, cells in table], subject.name)
        table = [table[i] for i in found]
    if set(header) >= via.CSV_COLUMNS:
        return via.read_cells(table, notice)
    corners_of, used = _columns(header, form)
    rows = Rows(notices=[notice] if notice else [])
    open_images = {"imageid", "labelname", "xmin", "xmax"} <= set(header)
    groups = [(line, cells) for line, cells in table if cells.get("isgroupof") == "1"]
    if open_images and groups:
        rows.notices.append(count_left_out([f"line {line}" for line, _ in groups], "group of many"))
        table = [row for row in table if row not in groups]
    sizes = next((s for s in _IMAGE_SIZES if set(s) <= set(header) - used), None)
    for line, cells in table:
        where = f"line {line}"
        rows.boxes.append(_box(header, cells, corners_of(cells, where), where))
        declared = size_of(cells[sizes[0]], cells[sizes[1]], where) if sizes else None
        if len(rows.boxes) > 1 and declared != rows.declared:
            raise Unreadable(f"{where}: another size of the same picture than in lines before")
        rows.declared = declared
    if open_images:
        for box in rows.boxes:
            if not all(0 <= side <= 1 for side in box.corners):
                raise Unreadable(f"{box.where}: OpenImages gives shares of width and height, 0..1")
        rows.shares = True
    return rows


def _box(header: Sequence[str], cells: Cells, corners: Corners, where: str) -> Box:
    def cell(names: Sequence[str]) -> str | None:
        name = _first(header, names)
        return cells[name] if name else None

    label, category = text_of(cell(_LABELS)), key_of(cell(_CATEGORIES))
    return Box(
        corners,
        label if label is not None else text_of(category),
        category,
        score_of(cell(_SCORES), where),
        key_of(cell(_IDS)),
        where,
    )


def _columns(
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
    return _make(form or BoxForm.XYWH)(a, b, c, d, where)


def _settle_units(rows: Rows) -> None:
    """Boxes that all lie within one pixel are shares; a file of both is refused."""
    if rows.shares or not rows.boxes:
        return
    within = [all(0 <= side <= 1 for side in box.corners) for box in rows.boxes]
    if all(within):
        rows.shares = True
        rows.notices.append("the boxes are read as shares of width and height, as none is above 1")
    elif mixed := [
        box.where
        for box, inside in zip(rows.boxes, within, strict=True)
        if inside and any(side != int(side) for side in box.corners)
    ]:
        raise Unreadable(f"{mixed[0]}: this box is in shares, and others are in pixels")


def _first(header: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in header), None)


def _are_numbers(cells: Sequence[str]) -> bool:
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return False
    return bool(cells)


def _is_fraction(cell: str) -> bool:
    return _are_numbers([cell]) and "." in cell and 0 <= float(cell) <= 1
