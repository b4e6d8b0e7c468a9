"""YOLO labels and predictions: a class and shares of the picture's width and height a line.

    class x y w h [confidence] [id]         boxes by centre and size, and tracks
    class x1 y1 x2 y2 x3 y3 ... [confidence] [id]    polygons and oriented boxes
    class x y w h, then x y [visible] for each keypoint [confidence] [id]    poses

Nothing in a file names its form, and a number of columns fits several: all lines together and their
values decide, else the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from samtrt.choices import BoxForm
from samtrt.formats.boxes.types import Box, Corners, Rows, Unreadable, key_of, number, score_of

_MOST = 1.01
"""Shares may be as much as this by rounding; Ultralytics' reader allows as much."""
_INTEGER = re.compile(r"[0-9]+")
_ASK = "say which by --boxes-format yolo, yolo-segment or yolo-pose"


@dataclass(frozen=True)
class Line:
    """A line's class and its columns after it, as numbers and as texts."""

    where: str
    kind: str
    values: tuple[float, ...]
    texts: tuple[str, ...]

    @property
    def id(self) -> int | None:
        """The last column where it can be a track's number: those count from 1."""
        return (
            int(self.texts[-1]) if _INTEGER.fullmatch(self.texts[-1]) and self.values[-1] else None
        )


def read_yolo(text: str, form: BoxForm | None) -> Rows:
    """Read labels; raises `Unreadable`."""
    lines = [_line(n, row) for n, row in enumerate(text.splitlines(), start=1) if row.strip()]
    rows = Rows(shares=True)
    if not lines:
        return rows
    kind = form or _told(lines, rows.notices)
    ids = kind is BoxForm.YOLO and any(
        len(line.values) == 5 and line.values[-1] > 1 for line in lines
    )
    rows.boxes = [
        Box(corners, line.kind, key_of(line.kind), score, number_, line.where)
        for line in lines
        for corners, score, number_ in (_READERS[kind](line, ids),)
    ]
    return rows


Found = tuple[Corners, float | None, int | None]
"""Corners as shares, confidence, and id."""


def _line(number_: int, row: str) -> Line:
    where = f"line {number_}"
    kind, *texts = row.split()
    values = tuple(number(text, where) for text in texts)
    if len(values) < 4:
        raise Unreadable(f"{where} is not 'class x y w h' or 'class x1 y1 x2 y2 x3 y3...'")
    if min(values) < 0:
        raise Unreadable(f"{where}: {min(values):g} is negative; YOLO gives shares, 0..1")
    if max(values[:4]) > _MOST:
        raise Unreadable(f"{where} is in pixels; YOLO gives shares of the width and height, 0..1")
    if re.fullmatch(r"[0-9]+(\.0*)?", kind):
        kind = str(int(float(kind)))
    elif re.fullmatch(r"[-+0-9.eE]+", kind):
        raise Unreadable(f"{where}: {kind} is no number of a class")
    return Line(where, kind, values, tuple(texts))


def _told(lines: Sequence[Line], notices: list[str]) -> BoxForm:
    """Tell a file's form from all of its lines.

    Raises:
        Unreadable: where it is of none, or might be of two.
    """
    if max(len(line.values) for line in lines) <= 5:
        return BoxForm.YOLO
    possible = [kind for kind in _READERS if _fits(lines, kind)]
    if not possible:
        for line in lines:  # name the line that is in no form at all
            if not any(_fits([line], kind) for kind in _READERS):
                raise Unreadable(
                    f"{line.where}: its {len(line.values)} values after the class are no box with "
                    "confidence and id, no polygon and no pose in shares, 0..1"
                )
        raise Unreadable(f"its lines are in different forms; {_ASK}")
    if BoxForm.YOLO in possible:
        if BoxForm.YOLO_SEGMENT in possible:
            notices.append(
                "its lines are read as class x y w h confidence id; were they triangles, say "
                "--boxes-format yolo-segment"
            )
        return BoxForm.YOLO
    if len(possible) == 1:
        return possible[0]
    # Polygons or poses. Flags of visibility, 0, 1 or 2 in every third column, are of poses alone.
    if any(_has_flags(lines, tail) for tail in range(3)):
        return BoxForm.YOLO_POSE
    polygons = [_points(line) for line in lines]
    if any(map(_crosses_itself, polygons)):
        notices.append(
            "its lines are read as poses; were they polygons, say --boxes-format yolo-segment"
        )
        return BoxForm.YOLO_POSE
    # Six and more points in a ring that does not cross itself are hardly keypoints, and
    # the corners of oriented boxes are none.
    if any(len(polygon) >= 6 for polygon in polygons) or all(map(_is_oblong, polygons)):
        return BoxForm.YOLO_SEGMENT
    raise Unreadable(f"{lines[0].where}: it may be a polygon or a pose; {_ASK}")


def common_form(texts: Iterable[str]) -> BoxForm | None:
    """Return the only form that the labels of all pictures fit; None where lines may be several.

    A file alone may be read two ways, such as one triangle among polygons.
    """
    possible = set(_READERS)
    for text in texts:
        try:
            lines = [_line(n, row) for n, row in enumerate(text.splitlines(), 1) if row.strip()]
        except Unreadable:
            continue
        if lines and max(len(line.values) for line in lines) > 4:
            fitting = {kind for kind in possible if _fits(lines, kind)}
            possible = fitting or possible
    return possible.pop() if len(possible) == 1 else None


def _fits(lines: Sequence[Line], kind: BoxForm) -> bool:
    if kind is BoxForm.YOLO_POSE and len({len(line.values) for line in lines}) > 1:
        return False
    try:
        for line in lines:
            _READERS[kind](line, False)
    except Unreadable:
        return False
    return True


def _as_box(line: Line, ids: bool) -> Found:
    """Read centre and size, then perhaps a confidence, an id, or both."""
    if len(line.values) > 6:
        raise Unreadable(f"{line.where}: a box has 4 to 6 values after its class")
    corners = _around_centre(line.values)
    if len(line.values) == 4:
        return corners, None, None
    if len(line.values) == 5 and not ids:
        return corners, score_of(line.values[4], line.where), None
    if line.id is None:
        raise Unreadable(f"{line.where}: {line.texts[-1]} is no id of a track")
    score = score_of(line.values[4], line.where) if len(line.values) == 6 else None
    return corners, score, line.id


def _around_centre(values: Sequence[float]) -> Corners:
    x, y, width, height = values[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _as_segment(line: Line, ids: bool) -> Found:
    """Read a polygon, and the box around it; lines of 4 or 5 values are boxes."""
    count = len(line.values)
    if count <= 5:
        return _as_box(line, ids)
    score: float | None = None
    id_: int | None = None
    rest = line.values
    if count % 2 and rest[-1] > 1:
        rest, id_ = rest[:-1], line.id
    elif count % 2:
        rest, score = rest[:-1], score_of(rest[-1], line.where)
    elif count > 6 and rest[-1] > 1 and line.id is not None:
        rest, score, id_ = rest[:-2], score_of(rest[-2], line.where), line.id
    elif count > 6 and line.id is not None and max(rest[1:-2:2]) < 0.98:
        raise Unreadable(
            f"{line.where}: its last two columns may be a corner or a confidence and an id; write "
            "the id as a number above 1, or a corner as 1.0"
        )
    if max(rest) > _MOST or (count % 2 and score is None and id_ is None):
        raise Unreadable(f"{line.where}: a polygon's corners are shares, 0..1")
    xs, ys = rest[::2], rest[1::2]
    return (min(xs), min(ys), max(xs), max(ys)), score, id_


def _points(line: Line) -> list[tuple[float, float]]:
    count = len(line.values) // 2 * 2
    rest = line.values[: count if line.values[-1] <= _MOST else count - 2]
    return list(zip(rest[::2], rest[1::2], strict=True))


def _as_pose(line: Line, _: bool) -> Found:
    """Read a box that holds its keypoints; how many columns each has is told by where they lie."""
    corners = _around_centre(line.values)
    if min(corners) < -0.01 or max(corners) > _MOST:
        raise Unreadable(f"{line.where}: a pose's box reaches beyond the picture")
    for tail in range(3):  # nothing, a confidence, a confidence and an id
        for size in (3, 2):
            end = len(line.values) - tail
            if end > 4 and (end - 4) % size == 0 and _holds(corners, line.values[4:end], size):
                score = line.values[end] if tail else None
                if (score is None or score <= 1) and (tail < 2 or line.id is not None):
                    return corners, score, line.id if tail == 2 else None
    raise Unreadable(f"{line.where}: it has no keypoints within its box")


def _holds(corners: Corners, values: Sequence[float], size: int) -> bool:
    """Tell whether keypoints that are visible lie within a box, or a tenth of it beyond."""
    x1, y1, x2, y2 = corners
    beyond_x, beyond_y = (x2 - x1) / 10, (y2 - y1) / 10
    for i in range(0, len(values), size):
        x, y = values[i : i + 2]
        if size == 3 and values[i + 2] not in (0, 1, 2) and values[i + 2] > 1:
            return False
        if (x == 0 and y == 0) or (size == 3 and values[i + 2] == 0):
            continue
        if not (x1 - beyond_x <= x <= x2 + beyond_x and y1 - beyond_y <= y <= y2 + beyond_y):
            return False
    return True


def _has_flags(lines: Sequence[Line], tail: int) -> bool:
    """Tell whether every third column after a box is 0, 1 or 2, of two keypoints at least."""
    ends = [len(line.values) - tail for line in lines]
    return all(
        end >= 10 and (end - 4) % 3 == 0 and all(v in (0, 1, 2) for v in line.values[6:end:3])
        for line, end in zip(lines, ends, strict=True)
    )


def _is_oblong(points: Sequence[tuple[float, float]]) -> bool:
    """Tell whether four corners are those of a box turned by some angle."""
    if len(points) != 4:
        return False
    (a, b), (c, d), (e, f), (g, h) = points
    return abs(a + e - c - g) < 0.02 and abs(b + f - d - h) < 0.02


def _crosses_itself(points: Sequence[tuple[float, float]]) -> bool:
    """Tell whether two edges of a ring cross in a point inside both."""
    count = len(points)
    if count > 200:
        return False  # no pose has as many

    def side(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    for i in range(count):
        for j in range(i + 2, count):
            k, m = i + 1, (j + 1) % count
            if m == i:
                continue
            if side(i, k, j) * side(i, k, m) < -1e-18 and side(j, m, i) * side(j, m, k) < -1e-18:
                return True
    return False


_READERS: dict[BoxForm, Callable[[Line, bool], Found]] = {
    BoxForm.YOLO: _as_box,
    BoxForm.YOLO_SEGMENT: _as_segment,
    BoxForm.YOLO_POSE: _as_pose,
}
