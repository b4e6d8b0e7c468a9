"""From the pixels that boxes were made in to those of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from samtrt.formats.boxes.types import Boxes, Corners, Rows, Subject, Unreadable
from samtrt.types import Size


def fit(rows: Rows, subject: Subject) -> Boxes:
    """Bring boxes to the upright picture and check that they are of it.

    Raises:
        Unreadable: where the declared size is of another picture, or a box lies outside.
    """
    notices = list(rows.notices)
    height, width = subject.size
    place = _place(rows, subject, notices)
    if not rows.shares and rows.boxes and all(_is_share(box.corners) for box in rows.boxes):
        raise Unreadable(
            f"{rows.boxes[0].where}: all boxes lie within one pixel; are they shares of the "
            "picture's width and height? Pixels are expected here"
        )
    kept, beyond, empty = [], 0, []
    for box in rows.boxes:
        x1, y1, x2, y2 = corners = place(box.corners)
        area = (x2 - x1) * (y2 - y1)
        if area <= 0:
            empty.append(box.where)
            continue
        inside = max(min(x2, width) - max(x1, 0), 0) * max(min(y2, height) - max(y1, 0), 0)
        if inside < area / 2:
            raise Unreadable(
                f"{box.where}: the box {x1:g}, {y1:g}, {x2:g}, {y2:g} lies mostly outside the "
                f"picture of {width} x {height} pixels; was it made on another?"
            )
        beyond += x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1
        kept.append(replace(box, corners=corners))
    if empty:
        notices.append(count_left_out(empty, "box without area"))
    if beyond:
        notices.append(f"{beyond} of {len(kept)} boxes reach beyond the picture")
    return Boxes(tuple(kept), tuple(notices), rows.image)


def same_shape(one: Size, other: Size) -> bool:
    """Tell whether a picture of one size can be the other resized, each side rounded to pixels."""
    (h1, w1), (h2, w2) = one, other
    if h1 == h2 or w1 == w2:
        return one == other
    errors = (w1 * h2 / h1 - w2, h1 * w2 / w1 - h2, w2 * h1 / h2 - w1, h2 * w1 / w2 - h1)
    return min(map(abs, errors)) < 1


class _Place:
    """Maps corners: scales, then turns as EXIF says."""

    def __init__(self, scale: tuple[float, float], orientation: int, shown: Size) -> None:
        self.scale, self.orientation, self.shown = scale, orientation, shown

    def __call__(self, corners: Corners) -> Corners:
        x1, y1, x2, y2 = corners
        across, down = self.scale
        x1, y1, x2, y2 = x1 * across, y1 * down, x2 * across, y2 * down
        height, width = self.shown
        if self.orientation in (5, 6, 7, 8):
            x1, y1, x2, y2 = y1, x1, y2, x2
        if self.orientation in (3, 4, 7, 8):
            y1, y2 = height - y2, height - y1
        if self.orientation in (2, 3, 6, 7):
            x1, x2 = width - x2, width - x1
        return x1, y1, x2, y2


def _place(rows: Rows, subject: Subject, notices: list[str]) -> _Place:
    """Return what maps corners of the file to the picture."""
    height, width = subject.size
    orientation = subject.orientation or 1
    if orientation != 1 and (
        rows.declared is None or rows.shares or same_shape(rows.declared, subject.size)
    ):
        notices.append(
            f"the picture is turned upright by EXIF (orientation {orientation}), and the boxes are "
            "taken as those of the upright picture"
        )
    if rows.shares:
        return _Place((width, height), 1, subject.size)
    if rows.declared is None or rows.declared == subject.size:
        return _Place((1, 1), 1, subject.size)
    declared, (tall, wide) = f"{rows.declared[1]} x {rows.declared[0]}", rows.declared
    if same_shape(rows.declared, subject.size):
        notices.append(
            f"the boxes were made at {declared} pixels and are scaled to {width} x {height}"
        )
        return _Place((width / wide, height / tall), 1, subject.size)
    if same_shape((wide, tall), subject.size):
        if orientation in (5, 6, 7, 8):
            notices.append(
                f"the boxes were made before EXIF turned the picture (at {declared} pixels), and "
                "are turned with it"
            )
            return _Place((height / wide, width / tall), orientation, subject.size)
        why = "its sides the other way round: turn the picture or the boxes"
    else:
        why = "not the same picture at another size"
    raise Unreadable(
        f"its boxes were made on a picture of {declared} pixels, and this one is {width} x "
        f"{height}: {why}"
    )


def _is_share(corners: Corners) -> bool:
    return all(0 <= side <= 1 for side in corners)


def count_left_out(places: Sequence[str], what: str) -> str:
    """Say what was left out and where."""
    named = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    return f"left out {len(places)} x {what}: {named}"
