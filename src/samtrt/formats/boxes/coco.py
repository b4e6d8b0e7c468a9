"""COCO datasets (`images`, `annotations`, `categories`) and results (a list of detections)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from samtrt.formats.boxes.fitting import count_left_out
from samtrt.formats.boxes.names import Names, stem_of
from samtrt.formats.boxes.types import (
    Box,
    Kind,
    Listing,
    NotListed,
    Rows,
    Unreadable,
    from_sides,
    items,
    key_of,
    mapping,
    numbers,
    score_of,
    size_of,
    text_of,
    without_nan,
)
from samtrt.types import Size

Entries = list[tuple[int, dict[str, Any]]]
"""Annotations, each with its place in the file."""


class Dataset(Listing):
    """A COCO dataset."""

    def __init__(self, data: dict[str, Any]) -> None:
        """Index it by pictures; raises `Unreadable`."""
        self._entries = entries_of(items(data["annotations"], "'annotations'"))
        self._names = category_names(data)
        self.categories = [
            {**without_nan(kind), "id": key_of(kind["id"])} for kind in data.get("categories") or []
        ]
        self.unique_ids = are_unique(self._entries)
        self._of_image = group(self._entries)
        self._images = list(images_of(data).items())
        if not self._images:  # then numbers are all there is
            self.pictures = numbers_of(self._of_image)
            return
        if None in self._of_image:
            place, item = self._of_image[None][0]
            raise Unreadable(f"{_where(place, item)}: 'image_id' is missing")
        self._index = Names([image["file_name"] for _, image in self._images])
        self.pictures = self._index.pictures

    def rows(self, name: str) -> Rows:
        """Take one picture's boxes; raises `Unreadable`."""
        if not self._images:
            key, entries = of_number(self._of_image, name)
            rows = _rows(entries, self._names)
            rows.picture = key
            return rows
        found, notice = self._index.find(name)
        number, image = self._images[found[0]]
        if len(found) > 1:
            other = self._images[found[1]][0]
            raise Unreadable(f"its images {number} and {other} are both {image['file_name']}")
        declared = size_of(image.get("height"), image.get("width"), f"image {number!r}")
        rows = _rows(self._of_image.get(number, []), self._names, declared, notice)
        rows.picture = image["file_name"]
        rows.image = {
            "id": number,
            **{
                name: without_nan(value)
                for name, value in image.items()
                if name not in ("id", "file_name", "height", "width")
            },
        }
        return rows

    def kinds(self) -> Iterable[Kind]:
        """Return what is declared or, where nothing is, what is used."""
        return self._names.items() if self._names else kinds_of(self._entries)


class Detections(Listing):
    """A list of detections, told apart by `file_name` or by `image_id`."""

    def __init__(self, data: list[dict[str, Any]]) -> None:
        """Index it by pictures; raises `Unreadable`."""
        self._entries = entries_of(data)
        self.unique_ids = are_unique(self._entries)
        self._of_image = group(self._entries)
        self._index = None
        self.pictures = numbers_of(self._of_image)
        if data and all("file_name" in item for item in data):
            self._index = Names([str(item["file_name"]) for item in data])
            self.pictures = self._index.pictures

    def rows(self, name: str) -> Rows:
        """Take one picture's boxes; raises `Unreadable`."""
        if self._index is None:
            key, entries = of_number(self._of_image, name)
            rows = _rows(entries, {})
            rows.picture = key
            return rows
        found, notice = self._index.find(name)
        rows = _rows([self._entries[i] for i in found], {}, notice=notice)
        rows.picture = str(self._entries[found[0]][1]["file_name"])
        return rows

    def kinds(self) -> Iterable[Kind]:
        """Return what its boxes are of."""
        return kinds_of(self._entries)


def kinds_of(entries: Entries) -> Iterable[Kind]:
    """Return what annotations are of where the file does not declare it."""
    for _, item in entries:
        category = key_of(item.get("category_id"))
        yield category, text_of(item.get("category_name")) or text_of(category)


def are_unique(entries: Entries) -> bool:
    """Tell whether every annotation has a number of its own."""
    ids = {item.get("id") for _, item in entries if type(item.get("id")) is int}
    return len(ids) == len(entries)


def group(entries: Entries) -> dict[int | str | None, Entries]:
    """Return annotations by the number of their image."""
    of_image: dict[int | str | None, Entries] = {}
    for place, item in entries:
        of_image.setdefault(key_of(item.get("image_id")), []).append((place, item))
    return of_image


def entries_of(data: list[Any]) -> Entries:
    """Number annotations; raises `Unreadable`."""
    return [(place, mapping(item, _where(place, item))) for place, item in enumerate(data)]


def images_of(data: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return each image's entry by its number; raises `Unreadable`."""
    images: dict[int | str, dict[str, Any]] = {}
    for i, entry in enumerate(items(data.get("images") or [], "'images'")):
        image = mapping(entry, f"image {i} of 'images'")
        key = key_of(image.get("id"))
        where = f"image {image.get('id')!r}"
        if key is None or not isinstance(image.get("file_name"), str):
            raise Unreadable(f"image {i} of 'images' has no 'id' or no 'file_name'")
        if key in images:
            raise Unreadable(f"{where} is there twice")
        images[key] = image
    return images


def category_names(data: dict[str, Any]) -> dict[Any, str | None]:
    """Return the names of categories by number; raises `Unreadable`."""
    names: dict[Any, str | None] = {}
    for i, entry in enumerate(items(data.get("categories") or [], "'categories'")):
        kind = mapping(entry, f"category {i} of 'categories'")
        key = key_of(kind.get("id"))
        if key is None:
            raise Unreadable(f"category {i} of 'categories' has no 'id'")
        if key in names:
            raise Unreadable(f"category {key} is there twice")
        names[key] = text_of(kind.get("name"))
    return names


def box_of(item: dict[str, Any], place: int, names: dict[Any, str | None]) -> Box:
    """Read one annotation's box, in pixels of its image; raises `Unreadable`."""
    where = _where(place, item)
    if "bbox" not in item:
        raise Unreadable(f"{where}: 'bbox' is missing")
    x, y, width, height = numbers(item["bbox"], 4, f"{where}: bbox")
    category = key_of(item.get("category_id"))
    if names and category is not None and category not in names:
        raise Unreadable(f"{where}: 'categories' has no {category!r}")
    return Box(
        from_sides(x, y, width, height, where),
        names.get(category) or text_of(item.get("category_name")) or text_of(category),
        category,
        score_of(item.get("score"), where),
        key_of(item.get("id")),
        where,
    )


def is_crowd(item: dict[str, Any]) -> bool:
    """Tell whether an annotation is of a region with many objects, which is no prompt for one."""
    return item.get("iscrowd") in (1, True)


def _rows(
    entries: Entries,
    names: dict[Any, str | None],
    declared: Size | None = None,
    notice: str = "",
) -> Rows:
    """Read boxes; crowd regions are left out with a notice."""
    rows = Rows(declared=declared, notices=[notice] if notice else [])
    crowds = [(place, item) for place, item in entries if is_crowd(item)]
    rows.boxes = [box_of(item, place, names) for place, item in entries if not is_crowd(item)]
    if crowds:
        rows.notices.append(count_left_out([_where(*entry) for entry in crowds], "crowd region"))
    return rows


def numbers_of(groups: dict[int | str | None, Entries]) -> list[str] | None:
    """Return the numbers of images, where there are such."""
    return [str(key) for key in groups if key is not None] or None


def of_number(groups: dict[int | str | None, Entries], name: str) -> tuple[str | None, Entries]:
    """Take one image's detections where numbers alone tell images apart.

    A file's number is its stem, as in COCO's own names. One image's detections without a number,
    or of a picture without one, are taken as they are.

    Args:
        groups: Detections by the number of their image.
        name: The picture's path.

    Returns:
        The image's number, None where there is none, and its detections.

    Raises:
        NotListed: where none has the picture's number.
    """
    number = key_of(stem_of(name))
    if len(groups) == 1:
        (only, entries) = next(iter(groups.items()))
        if not isinstance(only, int) or not isinstance(number, int):
            return (None if only is None else str(only)), entries
    if number in groups or not groups:
        return str(number), groups.get(number, [])
    raise NotListed(
        f"it has boxes for {len(groups)} {'image' if len(groups) == 1 else 'images'} and none has "
        f"the number of '{name}'; give the boxes of one image, or the COCO dataset with its image "
        "names"
    )


def _where(place: int, item: Any) -> str:
    key = item.get("id") if isinstance(item, dict) else None
    return f"entry {place} of the list" if key is None else f"annotation {key}"
