"""Reading boxes from what detectors and annotation tools write: COCO, YOLO, labelme, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.errors import PromptError
from samtrt.types import Size

Boxes = tuple[npt.NDArray[np.float64], list[str] | None]
"""XYXY [P, 4] in image pixels, and a label for each box where the file has labels."""

Row = tuple[Sequence[float | str], str | None]


def read_boxes(path: str | Path, image_size: Size, image_name: str = "") -> Boxes:
    """Read the boxes that a file gives for one image.

    The form is told by the suffix and, for JSON, by the content:

    - `.json`: a COCO dataset (`images`, `annotations`) or COCO results (a list of objects with
      `bbox`, XYWH); a labelme file (`shapes`); `{"boxes": [...], "labels": [...]}` or a bare list
      of boxes, XYXY;
    - `.txt`: YOLO labels, one `class x y w h [confidence]` a line, or `class x1 y1 x2 y2 x3 y3 ...`
      (a polygon, whose box is taken), as shares of width and height;
    - `.csv`: a header with x1, y1, x2, y2 (or xmin, ymin, xmax, ymax; or x, y, width, height) and
      optionally `label` and `image`; or no header and the columns x1, y1, x2, y2[, label].

    Args:
        path: The file.
        image_size: (height, width) of the image.
        image_name: The image's file name, which picks its boxes in a file about many images.

    Raises:
        PromptError: where the file cannot be read, is in none of these forms, or has no box for
            this image.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PromptError(f"no boxes file at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"cannot read boxes from {path}: {error}") from None
    name = PurePath(image_name).name
    try:
        match path.suffix.lower():
            case ".json":
                rows = _read_json(text, name)
            case ".txt":
                rows = _read_yolo(text, image_size)
            case ".csv":
                rows = _read_csv(text, name)
            case _:
                raise PromptError(
                    f"cannot tell the form of {path}: boxes come as .json (COCO, labelme or a "
                    "list), .txt (YOLO) or .csv"
                )
        boxes = np.array([[float(side) for side in box] for box, _ in rows], dtype=np.float64)
        if rows and boxes.shape != (len(rows), 4):
            raise ValueError("a box is not four numbers")
        if not np.isfinite(boxes).all():
            raise ValueError("a box has a side that is not a finite number")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise PromptError(f"{path} is not a boxes file that samtrt can read: {reason}") from None
    if not rows:
        about = f" for {image_name}" if image_name else ""
        raise PromptError(f"{path} has no box{about}")
    labels = [label for _, label in rows]
    if all(label is None for label in labels):
        return boxes, None
    return boxes, [label or "" for label in labels]


def _read_json(text: str, image_name: str) -> list[Row]:
    data: Any = json.loads(text)
    if isinstance(data, dict) and "annotations" in data:
        return _coco_dataset(data, image_name)
    if isinstance(data, dict) and "shapes" in data:
        return [_labelme_shape(shape) for shape in data["shapes"]]
    if isinstance(data, dict) and "boxes" in data:
        labels = data.get("labels") or [None] * len(data["boxes"])
        if len(labels) != len(data["boxes"]):
            raise ValueError(f"{len(data['boxes'])} boxes and {len(labels)} labels")
        return [(box, _text(label)) for box, label in zip(data["boxes"], labels, strict=True)]
    if isinstance(data, list) and all(isinstance(item, dict) for item in data):
        return _coco_results(data, image_name)
    if isinstance(data, list):
        single = len(data) == 4 and all(isinstance(side, int | float) for side in data)
        return [(box, None) for box in ([data] if single else data)]
    raise ValueError("the JSON is not COCO, labelme, a list of boxes, or an object with 'boxes'")


def _coco_dataset(data: dict[str, Any], image_name: str) -> list[Row]:
    images = {image["id"]: PurePath(image["file_name"]).name for image in data.get("images", [])}
    names = {kind["id"]: kind.get("name") for kind in data.get("categories", [])}
    wanted = {key for key, name in images.items() if name == image_name}
    if image_name and images and not wanted:
        raise ValueError(f"no image of it is called {image_name}")
    return [
        (_xywh(item["bbox"]), _text(names.get(item.get("category_id"), item.get("category_id"))))
        for item in data["annotations"]
        if not wanted or item["image_id"] in wanted
    ]


def _coco_results(data: list[dict[str, Any]], image_name: str) -> list[Row]:
    """Read results, which name images by number alone: the stem of the image's file, if many."""
    ids = {str(item.get("image_id")) for item in data}
    if len(ids) > 1:
        stem = PurePath(image_name).stem
        wanted = {i for i in ids if i == stem or (stem.isdigit() and i == str(int(stem)))}
        if not wanted:
            raise ValueError(
                f"it has results for {len(ids)} images and none has the number of '{image_name}'; "
                "give the results of one image, or the COCO dataset with its image names"
            )
        data = [item for item in data if str(item.get("image_id")) in wanted]
    return [(_xywh(item["bbox"]), _text(item.get("category_id"))) for item in data]


def _labelme_shape(shape: dict[str, Any]) -> Row:
    """Take the box around a shape's points; a circle is its centre and a point on its rim."""
    points = np.array(shape["points"], dtype=np.float64).reshape(-1, 2)
    if shape.get("shape_type") == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        points = points[0] + np.array([[-radius, -radius], [radius, radius]])
    return (*points.min(axis=0), *points.max(axis=0)), _text(shape.get("label"))


def _read_yolo(text: str, image_size: Size) -> list[Row]:
    height, width = image_size
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        kind, *values = line.split() or [""]
        if not kind:
            continue
        shares = np.array(values, dtype=np.float64)
        if len(shares) in (4, 5):  # centre, size and perhaps a confidence
            corners = np.array([shares[:2] - shares[2:4] / 2, shares[:2] + shares[2:4] / 2])
        elif len(shares) >= 6 and len(shares) % 2 == 0:
            polygon = shares.reshape(-1, 2)
            corners = np.array([polygon.min(axis=0), polygon.max(axis=0)])
        else:
            raise ValueError(
                f"line {number} is not 'class x y w h' or 'class x1 y1 x2 y2 x3 y3...'"
            )
        if corners.max() > 2:
            raise ValueError(
                f"line {number} is in pixels; YOLO gives shares of the width and height, 0..1"
            )
        rows.append(((corners * (width, height)).ravel().tolist(), kind))
    return rows


_CSV_COLUMNS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))
_CSV_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
_CSV_LABELS = ("label", "class", "name", "category")
_CSV_IMAGES = ("image", "filename", "file_name", "image_name", "path")


def _read_csv(text: str, image_name: str) -> list[Row]:
    lines = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    if not lines:
        return []
    header = [cell.lower() for cell in lines[0]]
    if _is_number(header[0]):
        return [(row[:4], row[4] if len(row) > 4 else None) for row in lines]
    sides = next((c for c in _CSV_COLUMNS + _CSV_SIZES if set(c) <= set(header)), None)
    if sides is None:
        raise ValueError(
            "its header has neither x1, y1, x2, y2 nor xmin, ymin, xmax, ymax nor "
            "x, y, width, height"
        )
    label = next((name for name in _CSV_LABELS if name in header), None)
    image = next((name for name in _CSV_IMAGES if name in header), None)
    rows: list[Row] = []
    for line in lines[1:]:
        cells = dict(zip(header, line, strict=True))
        if image and image_name and PurePath(cells[image]).name != image_name:
            continue
        box = [float(cells[name]) for name in sides]
        rows.append((_xywh(box) if sides in _CSV_SIZES else box, cells[label] if label else None))
    return rows


def _xywh(box: Sequence[float | str]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(side) for side in box)
    return x, y, x + width, y + height


def _text(label: Any) -> str | None:
    return None if label is None else str(label)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
