"""One image with its masks and all that is known of each: what every writer of results takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from samtrt.formats.boxes.types import Kind
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord
from samtrt.types import Size

NO_LABEL = "object"
"""The category of what has none: SAM's masks have no class."""

FACTS = ("id", "label", "category_id", "score")
"""What a file of boxes may say of each."""


@dataclass(frozen=True)
class Annotation:
    """One mask.

    Attributes:
        segmentation: The mask as compressed RLE: at full size, a hundred masks of a large picture
            would fill the memory.
        bbox: x, y, width, height in whole pixels; zeros for an empty mask.
        area: Pixels in the mask.
        label: Its class by name, where it has one.
        category_id: The class's number, where it has one.
        score: A detector's confidence, 0..1.
        id: The number of the annotation, track or group that the box came with.
        more: What else is known, as JSON values: `predicted_iou` and the like.
    """

    segmentation: rle.Rle
    bbox: tuple[int, int, int, int]
    area: int
    label: str | None = None
    category_id: int | str | None = None
    score: float | None = None
    id: int | str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, mask: rle.Rle, facts: dict[str, Any], **more: Any) -> Annotation:
        """Describe a mask, RLE of either kind.

        Args:
            mask: The mask.
            facts: `label`, `category_id`, `score` and `id`, where they are known.
            more: What else is known of it.
        """
        runs = rle.runs_of(mask)
        x1, y1, x2, y2 = runs.box
        bbox = (x1, y1, x2 - x1 + 1, y2 - y1 + 1) if runs.area else (0, 0, 0, 0)
        packed = mask if isinstance(mask["counts"], str) else rle.compress(mask)
        return cls(packed, bbox, runs.area, more=more, **facts)

    @property
    def facts(self) -> dict[str, Any]:
        """What a file said of it, without what it did not say."""
        values = {name: getattr(self, name) for name in FACTS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def patch(self) -> rle.Patch:
        """The mask, cut to its box."""
        return rle.cut(self.segmentation)


@dataclass(frozen=True)
class AnnotatedImage:
    """An image's masks.

    Attributes:
        file_name: The picture's path, relative to the folder of pictures.
        size: Its (height, width), upright.
        annotations: The masks, in their order.
        more: What else a file said of the picture: in COCO its `id`, `license` and the like.
    """

    file_name: str
    size: Size
    annotations: Sequence[Annotation]
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Category:
    """A class of objects.

    Attributes:
        id: Its number, as the file has it or counted from 1.
        name: Its name.
        more: What else a file said of it, such as COCO's `supercategory`.
    """

    id: int
    name: str
    more: dict[str, Any] = field(default_factory=dict)


class Categories:
    """The classes of a data set, and which of them a mask is of."""

    def __init__(self, categories: Iterable[Category]) -> None:
        self.all = tuple(sorted(categories, key=lambda one: one.id))
        self._of_id = {one.id: one for one in self.all}
        self._of_name = {one.name: one for one in reversed(self.all)}
        self._index = {one.id: i for i, one in enumerate(self.all)}

    @classmethod
    def of_boxes(cls, kinds: Iterable[Kind], declared: Sequence[dict[str, Any]] = ()) -> Categories:
        """Take the classes of boxes, with their numbers where each has one of its own.

        Args:
            kinds: Number and name of each box's class, of which either may be missing.
            declared: A COCO file's list of categories.
        """
        if declared and all(type(one.get("id")) is int for one in declared):
            found = [
                Category(
                    one["id"],
                    str(one.get("name") or one["id"]),
                    {key: value for key, value in one.items() if key not in ("id", "name")},
                )
                for one in declared
            ]
            if any(kind == (None, None) for kind in kinds):
                found.append(Category(max(one.id for one in found) + 1, NO_LABEL))
            return cls(found)
        pairs = {(number, name or NO_LABEL) for number, name in kinds}
        numbers = [number for number, _ in pairs if type(number) is int]
        if len(set(numbers)) == len(pairs):
            return cls(Category(int(number), name) for number, name in pairs)  # type: ignore[arg-type]
        names = sorted({name for _, name in pairs}, key=str)
        return cls(Category(i, name) for i, name in enumerate(names, start=1))

    def of(self, annotation: Annotation) -> Category:
        """Return a mask's class."""
        number = annotation.category_id
        by_number = self._of_id.get(number) if isinstance(number, int) else None
        name = annotation.label or NO_LABEL
        if by_number and (annotation.label in (None, by_number.name)):
            return by_number
        return self._of_name.get(name) or by_number or self.all[0]

    def index(self, annotation: Annotation) -> int:
        """Return a mask's class as its place among all, from 0, as YOLO counts."""
        return self._index[self.of(annotation).id]


ANY_OBJECT = Categories([Category(1, NO_LABEL, {"supercategory": ""})])
"""Of masks without classes."""


def of_records(records: Sequence[MaskRecord]) -> list[Annotation]:
    """Describe automatic masks; their boxes have official sides, one less than COCO's."""
    found = []
    for record in records:
        measures = {name: record[name] for name in MEASURES}  # type: ignore[literal-required]
        found.append(Annotation.of(rle.of(record["segmentation"]), {}, **measures))
    return found


MEASURES = ("predicted_iou", "stability_score", "point_coords", "crop_box")
"""What an automatic mask is described by beside its pixels."""
