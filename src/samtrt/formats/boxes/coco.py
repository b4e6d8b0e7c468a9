"""COCO datasets (`images`, `annotations`, `categories`) and results (a list of detections)."""

from __future__ import annotations

from typing import Any

from samtrt.formats.boxes.fitting import count_left_out
from samtrt.formats.boxes.names import matches, stem_of
from samtrt.formats.boxes.types import (
    Box,
    Rows,
    Subject,
    Unreadable,
    from_sides,
    items,
    key_of,
    mapping,
    numbers,
    score_of,
    size_of,
    text_of,
)
from samtrt.types import Size

Entries = list[tuple[int, dict[str, Any]]]
"""Annotations, each with its place in the file."""


def read_dataset(data: dict[str, Any], subject: Subject) -> Rows:
    """Take one picture's boxes of a dataset; raises `Unreadable`."""
    entries = entries_of(items(data["annotations"], "'annotations'"))
    names = category_names(data)
    images = images_of(data)
    if not images:  # then numbers are all there is
        return _rows(_of_number(entries, subject), names)
    listed = list(images.items())
    found, notice = matches([name for _, (name, _) in listed], subject.name)
    (key, (name, declared)) = listed[found[0]]
    if len(found) > 1:
        raise Unreadable(f"its images {key} and {listed[found[1]][0]} are both {name}")
    wanted = [(place, item) for place, item in entries if image_of(item, place) == key]
    return _rows(wanted, names, declared, notice)


def read_results(data: list[dict[str, Any]], subject: Subject) -> Rows:
    """Take one picture's boxes of a list of detections; raises `Unreadable`."""
    entries = entries_of(data)
    if data and all("file_name" in item for item in data):
        found, notice = matches([str(item["file_name"]) for item in data], subject.name)
        return _rows([entries[i] for i in found], {}, notice=notice)
    return _rows(_of_number(entries, subject), {})


def entries_of(data: list[Any]) -> Entries:
    """Number annotations; raises `Unreadable`."""
    return [(place, mapping(item, _where(place, item))) for place, item in enumerate(data)]


def images_of(data: dict[str, Any]) -> dict[Any, tuple[str, tuple[int, int] | None]]:
    """Return name and declared size of each image, by its number; raises `Unreadable`."""
    images: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    for i, entry in enumerate(items(data.get("images") or [], "'images'")):
        image = mapping(entry, f"image {i} of 'images'")
        key = key_of(image.get("id"))
        where = f"image {image.get('id')!r}"
        if key is None or not isinstance(image.get("file_name"), str):
            raise Unreadable(f"image {i} of 'images' has no 'id' or no 'file_name'")
        size = size_of(image.get("height"), image.get("width"), where)
        if key in images:
            raise Unreadable(f"{where} is there twice")
        images[key] = image["file_name"], size
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


def image_of(item: dict[str, Any], place: int) -> int | str:
    """Return the number of an annotation's image; raises `Unreadable`."""
    key = key_of(item.get("image_id"))
    if key is None:
        raise Unreadable(f"{_where(place, item)}: 'image_id' is missing")
    return key


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


def _of_number(entries: Entries, subject: Subject) -> Entries:
    """Take one image's detections where numbers alone tell images apart.

    A file's number is its stem, as in COCO's own names. One image's detections without a number,
    or of a picture without one, are taken as they are.
    """
    ids = {key_of(item.get("image_id")) for _, item in entries}
    stem = stem_of(subject.name)
    number = key_of(stem)
    if len(ids) == 1:
        only = next(iter(ids))
        if only is None or not isinstance(only, int) or not isinstance(number, int):
            return entries
    wanted = [entry for entry in entries if key_of(entry[1].get("image_id")) == number]
    if wanted or not entries:
        return wanted
    raise Unreadable(
        f"it has boxes for {len(ids)} {'image' if len(ids) == 1 else 'images'} and none has the "
        f"number of '{subject.name}'; give the boxes of one image, or the COCO dataset with its "
        "image names"
    )


def _where(place: int, item: Any) -> str:
    key = item.get("id") if isinstance(item, dict) else None
    return f"entry {place} of the list" if key is None else f"annotation {key}"
