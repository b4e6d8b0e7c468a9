"""From a file of boxes to those of a picture: what the file is, by its suffix and content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samtrt.choices import BoxForm
from samtrt.errors import PromptError
from samtrt.files import printable, read_whole
from samtrt.formats.boxes import coco, labelme, plain, via
from samtrt.formats.boxes.table import Table
from samtrt.formats.boxes.types import Listing, OnePicture, Unreadable
from samtrt.formats.boxes.yolo import read_yolo

OF_SUFFIX = {
    ".txt": (BoxForm.YOLO, BoxForm.YOLO_SEGMENT, BoxForm.YOLO_POSE),
    ".json": (BoxForm.XYXY, BoxForm.XYWH),
    ".csv": (BoxForm.XYXY, BoxForm.XYWH),
}


@contextmanager
def telling(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong with a file of boxes into a `PromptError` that names it."""
    try:
        yield
    except Unreadable as error:
        raise PromptError(printable(f"cannot read boxes from {path}: {error}")) from None
    except MemoryError:
        raise PromptError(f"{path} takes more memory than there is") from None


_MOST_BYTES = 2 << 30


def open_boxes(path: str | Path, form: BoxForm | None = None) -> Listing:
    """Parse a file of boxes, for one picture or for many; raises as `read_boxes`."""
    path = Path(path)
    text = read_text(path)
    with telling(path):
        return _parse(path, text, form)


def read_text(path: Path) -> str:
    """Read a file of boxes; raises `PromptError`."""
    try:
        return read_whole(path, _MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise PromptError(f"no boxes file at {path}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PromptError(f"cannot read boxes from {path}: {reason}") from None


def parse_json(text: str) -> Any:
    """Parse a file's JSON, without what is no use for boxes; raises `Unreadable`."""
    try:
        return json.loads(text, object_hook=_without_masks)
    except RecursionError:
        raise Unreadable("its JSON is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"it is not JSON: {error}") from None


def _without_masks(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop masks and pictures, which may be most of a large file, as soon as they are parsed."""
    for name in ("segmentation", "imageData", "mask"):
        entry.pop(name, None)
    return entry


def _parse(path: Path, text: str, form: BoxForm | None) -> Listing:
    suffix = path.suffix.lower()
    if suffix not in OF_SUFFIX:
        raise Unreadable(
            "its form is told by the suffix: .json (COCO, labelme, VIA or a list), .txt (YOLO) or "
            ".csv"
        )
    if form and form not in OF_SUFFIX[suffix]:
        raise Unreadable(f"boxes in {suffix} files are not '{form.value}'")
    if suffix == ".txt":
        return OnePicture(read_yolo(text, form))
    if suffix == ".csv":
        return Table(text, form)
    return _parse_json(parse_json(text), form)


def _parse_json(data: Any, form: BoxForm | None) -> Listing:
    if isinstance(data, dict) and "annotations" in data:
        return coco.Dataset(data)
    if isinstance(data, dict) and "shapes" in data:
        return labelme.Document(data)
    if isinstance(data, dict) and "boxes" in data:
        return OnePicture(plain.read_lists(data, form))
    if isinstance(data, dict) and via.is_via(data):
        return via.Project(data)
    if isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        return coco.Detections(data)
    if isinstance(data, list):
        return OnePicture(plain.read_list(data, form))
    raise Unreadable("its JSON is not COCO, labelme, VIA, a list of boxes, or one with 'boxes'")
