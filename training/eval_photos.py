"""Measure a model on the hand-labelled photographs, beside three classical methods.

    python training/eval_photos.py MODEL_DIRECTORY

writes the IoU of every object to docs/results (JSON and tables), the two sets apart, and a picture
of every photograph of the first and one of all of the second to docs/images/photos. Without a
directory it measures the classical methods alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from baselines import Felzenszwalb, FloodFill, GrabCut
from photo_set import MORE_PHOTOS, PHOTOS, Photo, PhotoObject, load_photos
from photo_sheets import draw_overview, draw_sheet
from samtrt._version import __version__
from samtrt.errors import SamtrtError
from samtrt.files import write_atomic
from samtrt.masks.logits import mask_iou
from samtrt.masks.prediction import Prediction
from samtrt.predictor import Predictor
from samtrt.types import BoolArray, UInt8Array

Masks = dict[str, BoolArray]
"""Masks by "prompt/method"."""

COLUMNS = {
    "box/model": "box: model",
    "box/grabcut": "box: GrabCut",
    "loose/model": "box 5% off: model",
    "loose/grabcut": "box 5% off: GrabCut",
    "point/model": "1 point: model",
    "point/model_best": "1 point: model, best of its 3",
    "point/flood_fill": "1 point: flood fill",
    "point/felzenszwalb": "1 point: Felzenszwalb",
    "points/model": "3 points: model",
    "points/flood_fill": "3 points: flood fill",
    "points/felzenszwalb": "3 points: Felzenszwalb",
}

DRAWN = (
    "box/model",
    "box/grabcut",
    "point/model",
    "point/flood_fill",
    "point/felzenszwalb",
    "points/model",
)
"""What the pictures show, in this order."""


class Segmenter(Protocol):
    """What is measured: `samtrt.Predictor`, or anything else with its methods."""

    def set_image(self, image: UInt8Array) -> None: ...

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
    ) -> Prediction: ...


@dataclass(frozen=True)
class Row:
    """The results for one object: IoU by "prompt/method"."""

    photo: str
    name: str
    area: int
    iou: dict[str, float]


def model_masks(model: Segmenter, item: PhotoObject) -> Masks:
    """Segment one object of the model's current image from its boxes, one point and three points.

    One point asks for three masks: "point/model" is the one that the model itself scores best,
    "point/model_best" the one that is best by the reference. A box or three points ask for one.
    """
    boxed = model.predict(box=item.box, multimask_output=False)
    loose = model.predict(box=item.loose_box, multimask_output=False)
    pointed = model.predict(point_coords=item.points[:1], point_labels=[1], multimask_output=True)
    three = model.predict(
        point_coords=item.points, point_labels=np.ones(len(item.points)), multimask_output=False
    )
    return {
        "box/model": boxed.masks[0].astype(bool),
        "loose/model": loose.masks[0].astype(bool),
        "point/model": pointed.masks[int(np.argmax(pointed.iou_predictions))].astype(bool),
        "point/model_best": max(
            pointed.masks.astype(bool), key=lambda mask: mask_iou(mask, item.mask)
        ),
        "points/model": three.masks[0].astype(bool),
    }


def baseline_masks(photo: Photo, segments: npt.NDArray[np.int64], item: PhotoObject) -> Masks:
    """Segment one object with the classical methods; `segments` are the image's Felzenszwalb's."""
    flood, graph = FloodFill(), Felzenszwalb()
    return {
        "box/grabcut": GrabCut()(photo.image, item.box),
        "loose/grabcut": GrabCut()(photo.image, item.loose_box),
        "point/flood_fill": flood(photo.image, item.points[:1]),
        "point/felzenszwalb": graph.pick(segments, item.points[:1]),
        "points/flood_fill": flood(photo.image, item.points),
        "points/felzenszwalb": graph.pick(segments, item.points),
    }


def segment(photo: Photo, model: Segmenter | None) -> Iterator[tuple[PhotoObject, Masks]]:
    """Yield each object of a photograph with every method's mask, in the order of COLUMNS."""
    segments = Felzenszwalb().segments(photo.image)
    if model is not None:
        model.set_image(photo.image)
    for item in photo.objects:
        masks = baseline_masks(photo, segments, item)
        if model is not None:
            masks |= model_masks(model, item)
        yield item, {key: masks[key] for key in COLUMNS if key in masks}


def evaluate(photos: list[Photo], model: Segmenter | None, pictures: Path | None) -> list[Row]:
    """Measure every object; with `pictures`, write a contact sheet for each photograph there."""
    rows = []
    for photo in photos:
        results = list(segment(photo, model))
        for item, masks in results:
            iou = {key: round(mask_iou(mask, item.mask), 4) for key, mask in masks.items()}
            rows.append(Row(photo.name, item.name, int(item.mask.sum()), iou))
        if pictures is not None:
            titles = {key: COLUMNS[key] for key in DRAWN if key in results[0][1]}
            with write_atomic(pictures / f"{photo.name}.jpg") as path:
                draw_sheet(photo, results, titles).save(path, quality=75, optimize=True)
    return rows


def summarise(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Return mean and median IoU and the share of objects at 0.5 or better, for each method."""
    table = {key: np.array([row.iou[key] for row in rows]) for key in rows[0].iou}
    return {
        key: {
            "mean": round(float(values.mean()), 4),
            "median": round(float(np.median(values)), 4),
            "half": round(float((values >= 0.5).mean()), 4),
        }
        for key, values in table.items()
    }


def markdown(rows: list[Row]) -> str:
    """Return the summary and the IoU of every object as two Markdown tables."""
    summary = summarise(rows)
    lines = ["| | mean IoU | median | share ≥ 0.5 |", "|---|---|---|---|"]
    for key, s in summary.items():
        lines.append(f"| {COLUMNS[key]} | {s['mean']:.3f} | {s['median']:.3f} | {s['half']:.2f} |")
    lines += ["", "| photo | object | " + " | ".join(COLUMNS[key] for key in summary) + " |"]
    lines.append("|---" * (len(summary) + 2) + "|")
    for row in rows:
        cells = " | ".join(f"{row.iou[key]:.2f}" for key in summary)
        lines.append(f"| {row.photo} | {row.name} | {cells} |")
    return "\n".join(lines) + "\n"


def write_results(
    folder: Path, rows: list[Row], more: list[Row], model: dict[str, Any] | None
) -> str:
    """Write photos.json and photos.md into `folder` and return the latter's text.

    Args:
        folder: Where to write.
        rows: The first set's objects.
        more: The second set's, which get a summary of their own.
        model: What was measured; None for the classical methods alone.
    """
    report = {
        "samtrt": __version__,
        "model": model,
        "baselines": {kind.__name__: asdict(kind()) for kind in (GrabCut, FloodFill, Felzenszwalb)},
        "summary": summarise(rows),
        "objects": [asdict(row) for row in rows],
        "more": {"summary": summarise(more), "objects": [asdict(row) for row in more]},
    }
    text = (
        "# Photographs: IoU of every object\n\n"
        f"Written by `python training/eval_photos.py`; {_describe(model)}. What it means: "
        f"[photos.md](../photos.md).\n\n## First set\n\n{markdown(rows)}"
        f"\n## Second set\n\n{markdown(more)}"
    )
    with write_atomic(folder / "photos.json") as path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with write_atomic(folder / "photos.md") as path:
        path.write_text(text, encoding="utf-8")
    return text


def _describe(model: dict[str, Any] | None) -> str:
    if model is None:
        return "classical methods alone"
    return (
        f"model {model['model']}, {model['precision']}, {model['backend']}, checkpoint "
        f"{model['checkpoint']} (sha256 {model['sha256'][:12]}…)"
    )


def _evaluate_sets(
    sets: tuple[list[Photo], list[Photo]], model: Segmenter | None, pictures: Path
) -> tuple[list[Row], list[Row]]:
    first = evaluate(sets[0], model, pictures)
    second = evaluate(sets[1], model, None)
    with write_atomic(pictures / "more.jpg") as path:
        draw_overview(sets[1]).save(path, quality=80, optimize=True)
    return first, second


def main() -> int:
    """Parse arguments, measure, write, and print the tables."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python training/eval_photos.py", description=summary)
    parser.add_argument("directory", nargs="?", type=Path, help="what `samtrt export` wrote")
    parser.add_argument("--backend", default="onnxruntime", help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--pictures", type=Path, default=Path("docs/images/photos"))
    options = parser.parse_args()
    try:
        sets = load_photos(PHOTOS), load_photos(MORE_PHOTOS)
        if options.directory is None:
            first, second = _evaluate_sets(sets, None, options.pictures)
            model = None
        else:
            with Predictor.load(options.directory, backend=options.backend) as predictor:
                first, second = _evaluate_sets(sets, predictor, options.pictures)
                manifest = predictor.manifest
            model = {
                "model": manifest.model,
                "checkpoint": manifest.checkpoint.name,
                "sha256": manifest.checkpoint.sha256,
                "precision": manifest.precision.value,
                "backend": options.backend,
            }
        print(write_results(options.results, first, second, model), end="")
    except SamtrtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
