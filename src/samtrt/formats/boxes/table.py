"""Boxes in CSV files: with a header that names the columns, or without."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from samtrt.choices import BoxForm
from samtrt.formats.boxes import via
from samtrt.formats.boxes.columns import (
    IDS,
    IMAGE_SIZES,
    IMAGES,
    SCORES,
    Cells,
    corners_in,
    first_of,
    kind_in,
    maker,
)
from samtrt.formats.boxes.fitting import count_left_out
from samtrt.formats.boxes.names import Names
from samtrt.formats.boxes.types import (
    Box,
    Corners,
    Kind,
    Listing,
    Rows,
    Unreadable,
    key_of,
    number,
    score_of,
    size_of,
    text_of,
)

Line = tuple[int, list[str]]
"""A line's number in the file and its cells."""


class Table(Listing):
    """A CSV file."""

    def __init__(self, text: str, form: BoxForm | None) -> None:
        """Index it by pictures; raises `Unreadable`."""
        self._form = form
        self._header, self._lines, self._notices = _header(_lines(text))
        self._index = None
        if self._header is None:
            if self._lines and not _are_numbers(self._lines[0][1][:1]):
                self._index = Names([cells[0] for _, cells in self._lines])
        else:
            if not _is_via(self._header):
                corners_in(self._header, form)  # that there are such, before lines are looked at
            for line, row in self._lines:
                if len(row) != len(self._header):
                    raise Unreadable(
                        f"line {line}: {len(row)} columns, and the header has {len(self._header)}"
                    )
            if (image := first_of(self._header, IMAGES)) and self._lines:
                column = self._header.index(image)
                self._index = Names([cells[column] for _, cells in self._lines])
        if self._index:
            self.pictures = self._index.pictures

    def rows(self, name: str) -> Rows:
        """Take one picture's boxes; raises `Unreadable`."""
        lines, notice, picture = self._lines, "", None
        if self._index:
            found, notice = self._index.find(name)
            lines = [self._lines[i] for i in found]
            picture = self._index.name_at(found[0])
        if not lines:
            return Rows()
        if self._header is None:
            rows = _headless(lines, self._form or BoxForm.XYXY, self._index is not None)
        else:
            rows = _with_header(self._header, lines, self._form)
        rows.notices = self._notices + ([notice] if notice else []) + rows.notices
        rows.picture = picture
        _settle_units(rows)
        return rows

    def kinds(self) -> Iterable[Kind]:
        """Return what its boxes are of; lines that cannot be read have their say in `rows`."""
        for line, cells in self._lines:
            if self._header is not None:
                table = dict(zip(self._header, cells, strict=True))
                yield via.kind_of(table) if _is_via(self._header) else kind_in(self._header, table)
                continue
            try:
                one = _headless([(line, cells)], self._form or BoxForm.XYXY, bool(self._index))
            except Unreadable:
                continue
            yield from ((box.category_id, box.label) for box in one.boxes)


def _is_via(header: Sequence[str]) -> bool:
    return set(header) >= via.CSV_COLUMNS


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
    if not lines:
        return None, [], []
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


def _headless(lines: list[Line], form: BoxForm, named: bool) -> Rows:
    """Read the columns [image,] x1, y1, x2, y2 [, confidence] [, label]."""
    notices = []
    if named:
        lines = [(line, cells[1:]) for line, cells in lines]
        lines = [line for line in lines if any(line[1])]  # an image without boxes has a line too
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
    return maker(form)(a, b, c, d, where)


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


def _with_header(header: list[str], lines: list[Line], form: BoxForm | None) -> Rows:
    """Read columns by their names."""
    table = [(line, dict(zip(header, row, strict=True))) for line, row in lines]
    if _is_via(header):
        return via.read_cells(table)
    corners_of, used = corners_in(header, form)
    rows = Rows()
    open_images = {"imageid", "labelname", "xmin", "xmax"} <= set(header)
    groups = [(line, cells) for line, cells in table if cells.get("isgroupof") == "1"]
    if open_images and groups:
        rows.notices.append(count_left_out([f"line {line}" for line, _ in groups], "group of many"))
        table = [row for row in table if row not in groups]
    sizes = next((s for s in IMAGE_SIZES if set(s) <= set(header) - used), None)
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
        name = first_of(header, names)
        return cells[name] if name else None

    category, label = kind_in(header, cells)
    return Box(
        corners,
        label,
        category,
        score_of(cell(SCORES), where),
        key_of(cell(IDS)),
        where,
    )


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


def _are_numbers(cells: Sequence[str]) -> bool:
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return False
    return bool(cells)


def _is_fraction(cell: str) -> bool:
    return _are_numbers([cell]) and "." in cell and 0 <= float(cell) <= 1
