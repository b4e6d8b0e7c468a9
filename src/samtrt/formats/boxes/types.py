"""What readers of boxes are given and what they give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.types import Size

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2."""


class Unreadable(ValueError):  # noqa: N818  (never leaves `read_boxes`)
    """What is wrong with a file, where in it, and what to do."""


class NotListed(Unreadable):
    """The file is about pictures, and the one at hand is none of them."""


@dataclass(frozen=True)
class Box:
    """One box and all that its file says of it.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the upright picture.
        label: Its class, by name or, where the file has none, by number.
        category_id: The class's number, where the file has one.
        score: The detector's confidence.
        id: The number of the annotation, track or group.
        where: Its place in the file, such as "line 3", for messages.
    """

    corners: Corners
    label: str | None = None
    category_id: int | str | None = None
    score: float | None = None
    id: int | str | None = None
    where: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what the file says of it beside the corners, as results repeat it."""
        facts = {
            "id": self.id,
            "label": self.label,
            "category_id": self.category_id,
            "score": self.score,
        }
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(frozen=True)
class Boxes:
    """The boxes of one picture.

    Attributes:
        items: The boxes, in the file's order; none is empty.
        notices: What was assumed or left out, a sentence each.
        image: What the file says of the picture: in COCO its id, licence and the like.
    """

    items: tuple[Box, ...]
    notices: tuple[str, ...] = ()
    image: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def xyxy(self) -> npt.NDArray[np.float64]:
        """The corners, float64 [P, 4], in pixels of the upright picture."""
        return np.array([box.corners for box in self.items], dtype=np.float64).reshape(-1, 4)

    @property
    def labels(self) -> list[str | None]:
        return [box.label for box in self.items]


@dataclass(frozen=True)
class Subject:
    """The picture that boxes are wanted for.

    Attributes:
        name: Its path, of which as much as is known; empty where nothing is.
        size: (height, width), upright.
        orientation: The EXIF orientation, 1..8, by which it was turned upright; None where that
            is not known.
    """

    name: str
    size: Size
    orientation: int | None = None


@dataclass
class Rows:
    """What a reader found for one picture.

    Attributes:
        boxes: Their corners are in pixels of the declared size, or shares of the picture.
        declared: (height, width) that the boxes were made at, where the file says so.
        shares: Whether corners are shares of width and height, 0..1.
        notices: What was assumed or left out.
        picture: The name that the file has for the picture; None where it names none.
        image: What else the file says of the picture.
    """

    boxes: list[Box] = field(default_factory=list)
    declared: Size | None = None
    shares: bool = False
    notices: list[str] = field(default_factory=list)
    picture: str | None = None
    image: dict[str, Any] = field(default_factory=dict)


Kind = tuple["int | str | None", "str | None"]
"""What a box is of: the category's number and its name, of which the file may have one or both."""


class Listing:
    """What a file, once parsed, says of one or of many pictures.

    Attributes:
        pictures: The names of all pictures that it is about; None where it names none.
        categories: Its list of categories, as COCO has it: `id`, `name` and more. Empty where it
            has no such list.
        unique_ids: Whether the boxes' ids are numbers of which none is there twice.
        notices: What was assumed about all pictures.
    """

    pictures: Sequence[str] | None = None
    categories: Sequence[dict[str, Any]] = ()
    unique_ids = False
    notices: Sequence[str] = ()

    def rows(self, name: str) -> Rows:
        """Return the boxes of the picture of this path.

        Raises:
            NotListed: where there are other pictures and not this one.
            Unreadable: where its boxes cannot be read.
        """
        raise NotImplementedError

    def kinds(self) -> Iterable[Kind]:
        """Return what its boxes are of, of all pictures; some may be there twice."""
        raise NotImplementedError


class OnePicture(Listing):
    """Boxes of one picture, which the file does not name."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def rows(self, name: str) -> Rows:  # noqa: ARG002
        """Return all boxes."""
        return self._rows

    def kinds(self) -> Iterable[Kind]:
        """Return what they are of."""
        return ((box.category_id, box.label) for box in self._rows.boxes)


LARGEST = 1e8
"""Beyond any picture's side, in pixels."""


def number(value: Any, where: str) -> float:
    """Return a JSON number or a text as a float.

    Raises:
        Unreadable: where it is none, or is not finite.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or "_" in str(value):
            raise ValueError
        result = float(value)
    except (ValueError, OverflowError):
        raise Unreadable(f"{where}: {_short(value)} is not a number") from None
    if not math.isfinite(result) or abs(result) > LARGEST:
        raise Unreadable(f"{where}: {_short(value)} is no finite number of pixels")
    return result


def numbers(values: Any, count: int, where: str) -> tuple[float, ...]:
    """Return `count` numbers; raises `Unreadable`."""
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise Unreadable(f"{where}: {_short(values)} is not a list of {count} numbers")
    return tuple(number(value, where) for value in values)


def from_sides(x: float, y: float, width: float, height: float, where: str) -> Corners:
    """Return the corners of a box given as x, y, width, height; raises `Unreadable`."""
    if width < 0 or height < 0:
        raise Unreadable(f"{where}: a width or height is negative ({width:g} x {height:g})")
    return x, y, x + width, y + height


def from_corners(x1: float, y1: float, x2: float, y2: float, where: str) -> Corners:
    """Return corners whose order is checked; raises `Unreadable`."""
    if x2 < x1 or y2 < y1:
        raise Unreadable(
            f"{where}: x2, y2 ({x2:g}, {y2:g}) lie before x1, y1 ({x1:g}, {y1:g}); are they width "
            "and height? Then say so: --boxes-format xywh, or a header x,y,width,height"
        )
    return x1, y1, x2, y2


def around(points: Any, where: str) -> Corners:
    """Return the corners around points [N, 2]; raises `Unreadable`."""
    if not isinstance(points, (list, tuple)) or not points:
        raise Unreadable(f"{where}: it has no points")
    pairs = [numbers(list(p) if isinstance(p, tuple) else p, 2, where) for p in points]
    xs, ys = zip(*pairs, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object; raises `Unreadable`."""
    if not isinstance(value, dict):
        raise Unreadable(f"{where}: {_short(value)} is not an object")
    return value


def items(value: Any, where: str) -> list[Any]:
    """Return a JSON list; raises `Unreadable`."""
    if not isinstance(value, list):
        raise Unreadable(f"{where} is not a list")
    return value


def size_of(height: Any, width: Any, where: str) -> Size | None:
    """Return a declared size, None where there is none; raises `Unreadable`."""
    if height is None and width is None:
        return None
    rows, columns = number(height, where), number(width, where)
    if rows < 1 or columns < 1 or rows != int(rows) or columns != int(columns):
        raise Unreadable(f"{where}: {columns:g} x {rows:g} is no size of a picture")
    return int(rows), int(columns)


def score_of(value: Any, where: str) -> float | None:
    """Return a confidence, 0..1, None where there is none; raises `Unreadable`."""
    if value is None or value == "":
        return None
    score = number(value, where)
    if not 0 <= score <= 1:
        raise Unreadable(f"{where}: the confidence {score:g} is not in 0..1")
    return score


def key_of(value: Any) -> int | str | None:
    """Return a number or text that names something, as the file has it."""
    if value is None or value == "" or isinstance(value, (dict, list)):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else str(value)


def without_nan(value: Any) -> Any:
    """Return a JSON value whose numbers are all finite: others become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    return [without_nan(one) for one in value] if isinstance(value, list) else value


def text_of(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
