"""Masks as a user keeps them: a table, a picture with the prompts drawn, mask PNGs, JSON."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from rich.markup import escape

from samtrt._version import __version__
from samtrt.cli import screen
from samtrt.decoding import check_results
from samtrt.errors import OutputError
from samtrt.files import check_ours, open_regular, printable, write_atomic
from samtrt.formats.annotation import Annotation
from samtrt.formats.drawn import draw_annotations
from samtrt.images.formats import FORMATS
from samtrt.masks import drawing
from samtrt.predictor import Predictor
from samtrt.types import UInt8Array


@dataclass(frozen=True)
class Results:
    """The masks of one call and the prompts that asked for them.

    Attributes:
        prompts: Arguments of `predict_batch`.
        found: The masks; `more["prompt"]` says which prompt each answers, from 0.
        labelled: Whether a file said what is in the boxes.
    """

    prompts: dict[str, Any]
    found: tuple[Annotation, ...]
    labelled: bool = False


def segment(
    predictor: Predictor,
    prompts: dict[str, Any],
    every: bool,
    facts: tuple[dict[str, Any], ...] = (),
) -> Results:
    """Answer prompts (arguments of `predict_batch`) with the best mask of each, or with every one.

    Each mask gets the `facts` of its prompt: what a file says of it.

    One point alone may mean a part or the whole, so the best of three masks is taken; a richer
    prompt gets the single mask that the model gives for it, as the paper advises (section 3).
    """
    points = np.shape(prompts.get("point_coords", ()))
    several = every or (points[1:2] == (1,) and len(prompts) == 2)
    found = []
    for start, some in _parts(prompts, predictor):
        masks, scores = predictor.predict_rle(**some, multimask_output=several)
        check_results(scores)
        for prompt, (candidates, values) in enumerate(zip(masks, scores, strict=True), start):
            order = np.argsort(-values, kind="stable")
            for i in order if every else order[:1]:
                told = facts[prompt] if facts else {}
                iou = round(float(values[i]), 6)
                one = Annotation.of(candidates[i], told, prompt=prompt, predicted_iou=iou)
                found.append(one)
    return Results(prompts, tuple(found), bool(facts))


def _parts(prompts: dict[str, Any], predictor: Predictor) -> Iterator[tuple[int, dict[str, Any]]]:
    """Divide many boxes, so that few masks are there at a time before they are packed."""
    boxes = prompts.get("boxes", ())
    height, width = predictor.original_size
    step = max(min(predictor.prompts_per_run, _PIXELS // (height * width)), 1)
    if len(boxes) <= step:
        yield 0, prompts
        return
    for start in range(0, len(boxes), step):
        yield start, {**prompts, "boxes": boxes[start : start + step]}


_PIXELS = 1 << 30
"""Of the masks that are there at a time, as lists of run lengths."""


def show(results: Results) -> None:
    """Print one line a mask."""
    labels = ["label"] if results.labelled else []
    columns = ["prompt", *labels, "score", "area", "box (x, y, width, height)"]
    shown = screen.table(*columns, left=1 + len(labels))
    for item in results.found:
        label = [escape(printable(item.label or ""))] if labels else []
        box, iou = ", ".join(map(str, item.bbox)), item.more["predicted_iou"]
        shown.add_row(str(item.more["prompt"]), *label, f"{iou:.3f}", f"{item.area:,}", box)
    screen.show(shown)


def write(
    results: Results,
    predictor: Predictor,
    image_name: str,
    pixels: UInt8Array | None,
    *,
    overlay: Path | None = None,
    mask: Path | None = None,
    json: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """Write what was asked for and return the paths; each file appears whole or not at all.

    Raises:
        OutputError: where a file cannot be written, or is there, not of samtrt, and `force` is not
            set.
    """
    masks = mask_paths(mask, len(results.found))
    for path in masks if len(masks) > 1 else ():
        check_ours(path, is_ours, force)
    written: list[Path] = []
    if overlay and pixels is not None:
        written.append(save_picture(overlay, draw(results, pixels)))
    if mask:
        for path, item in zip(masks, results.found, strict=True):
            written.append(save_picture(path, _white(item)))
    if json:
        with write_atomic(json) as temporary:
            document = as_json(results, predictor, image_name)
            text = jsonlib.dumps(document, indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        written.append(json)
    return written


def _white(item: Annotation) -> UInt8Array:
    """Return a mask as a picture, uint8 [H, W]: 255 where it is."""
    height, width = item.segmentation["size"]
    picture = np.zeros((height, width), dtype=np.uint8)
    x, y, mask = item.patch
    picture[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = 255
    return picture


def mask_paths(path: Path | None, count: int) -> list[Path]:
    """Return where masks go: NAME-0.png, NAME-1.png and so on where there are several."""
    if path is None:
        return []
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(count)]


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path], force: bool) -> None:
    """Make sure, before any work, that outputs replace neither inputs nor what is not ours.

    Raises:
        OutputError: where they would, or a place is no place for a file.
    """
    for path in outputs:
        if path.exists() and any(other.exists() and path.samefile(other) for other in inputs):
            raise OutputError(f"{path} is what is read: give another name to the result")
        check_ours(path, is_ours, force)


def is_ours(path: Path) -> bool:
    """Tell whether samtrt wrote a picture or a JSON file; an empty file counts too."""
    try:
        with open_regular(path) as file:
            start = file.read(4096)
        if not start:
            return True
        if path.suffix.lower() == ".json":
            return _JSON_KEY.encode() in start
        with Image.open(path, formats=FORMATS) as picture:
            return str(picture.getexif().get(ExifTags.Base.Software, "")).startswith(SOFTWARE)
    except Exception:  # whatever a decoder raises: then it is another's
        return False


SOFTWARE = "samtrt"
_JSON_KEY = '"checkpoint_sha256"'


def draw(results: Results, pixels: UInt8Array) -> UInt8Array:
    """Draw masks and prompts over the image."""
    picture = draw_annotations(pixels, results.found)
    if (boxes := results.prompts.get("boxes")) is not None:
        drawing.draw_boxes(picture, boxes, in_place=True)
    for coords, labels in zip(
        results.prompts.get("point_coords", ()),
        results.prompts.get("point_labels", ()),
        strict=True,
    ):
        drawing.draw_points(picture, coords, labels, in_place=True)
    return picture


def as_json(results: Results, predictor: Predictor, image_name: str) -> dict[str, Any]:
    """Describe the masks: COCO RLE, box, area and score of each, and what they were made with."""
    height, width = predictor.original_size
    asked = {
        name: np.asarray(value).tolist()
        for name, value in results.prompts.items()
        if name != "mask_input"
    }
    return {
        "image": {"file_name": image_name, "width": width, "height": height},
        "model": predictor.manifest.model,
        "checkpoint_sha256": predictor.manifest.checkpoint.sha256,
        "backend": predictor.decoder.name,
        "prompts": {**asked, "mask": "mask_input" in results.prompts},
        "masks": [
            {
                "prompt": item.more["prompt"],
                **item.facts,
                "segmentation": item.segmentation,
                "bbox": list(item.bbox),
                "area": item.area,
                "predicted_iou": item.more["predicted_iou"],
            }
            for item in results.found
        ],
    }


_LARGE = 50_000_000
"""Values of a picture whose PNG is packed quickly: a quarter larger, in a third of the time."""


def save_picture(path: Path, pixels: UInt8Array) -> Path:
    """Write a picture, uint8 [H, W] or RGB [H, W, 3], in the format of its suffix.

    Raises:
        OutputError: for a suffix that Pillow cannot write, and where the place cannot be written.
    """
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE or kind in ("PDF", "EPS", "PALM", "HDF5", "GRIB", "BUFR", "WMF"):
        raise OutputError(f"cannot write {path}: use a picture's suffix, such as .png")
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = f"{SOFTWARE} {__version__}"
    with write_atomic(path) as temporary:
        try:
            quick = {"compress_level": 1} if kind == "PNG" and pixels.size > _LARGE else {}
            Image.fromarray(pixels).save(temporary, format=kind, exif=exif, **quick)
        except (ValueError, KeyError, SystemError) as error:  # too large for the format, and such
            raise OutputError(f"cannot write {path} as {kind}: {error}") from None
    return path
