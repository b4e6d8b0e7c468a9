"""Measure a model on labels of held-out photographs, as `eval_photos.py` does on outlines by hand.

    PYTHONPATH=src python training/consensus.py .data/parts .data/heldout --split heldout --quick \
        --device cpu --weights run-5.safetensors --weights run-4.safetensors
    PYTHONPATH=src python training/eval_labels.py DIRECTORY... --data .data/heldout

Choices between checkpoints are made here, so that outlines by hand stay what nothing was chosen
by. Models made the labels (see `consensus.py`): differences between checkpoints count, not how
high a figure is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from eval_photos import model_masks
from evaluate import depths
from parts import opened, read_parts
from photo_set import PhotoObject, loosened
from samtrt.masks.logits import mask_iou
from samtrt.predictor import Predictor
from samtrt.types import BoolArray, UInt8Array

SMALLEST = 0.002
"""Of the photograph: smaller labels are left out."""
THRESHOLDS = ((0.88, 0.95), (0.8, 0.92), (0.7, 0.9), (0.6, 0.9), (0.6, 0.88), (0.6, 0.8))
"""Of predicted IoU and stability, as `samtrt auto` takes them."""


def prompted(name: str, mask: BoolArray, rng: np.random.Generator) -> PhotoObject:
    """Simulate a user's prompts for a mask [H, W]: boxes as `photo_set.py` has, and three points.

    The first point is the one deepest inside, the others are drawn where it is at least 40% as
    deep.
    """
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], dtype=np.float64)
    loose = loosened(box, (mask.shape[1], mask.shape[0]), rng)
    depth = depths(mask)
    inner = np.argwhere(depth > 0.4 * depth.max())
    first = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    points = np.stack([first, *inner[rng.integers(len(inner), size=2)]])[:, ::-1]
    return PhotoObject(name, mask, box, loose, points.astype(np.float64))


def labelled(data: Path) -> Iterator[tuple[UInt8Array, list[PhotoObject]]]:
    """Yield each held-out photograph that has labels, uint8 [H, W, 3], with its objects."""
    items = dict(read_parts(data))
    for name in sorted(name for name in items if name.startswith("photo/heldout/")):
        maps = items.get(name.replace("photo/", "ids/", 1))
        if maps is None:
            continue
        image = opened(items[name])
        rng = np.random.default_rng(int(name.split("/")[2][:8], 16))
        size = (image.shape[1], image.shape[0])
        masks = [
            cv2.resize((ids == k).astype(np.float32), size) > 0.5
            for ids in opened(maps).transpose(2, 0, 1)
            for k in np.unique(ids)
            if k
        ]
        masks = [mask for mask in masks if mask.mean() > SMALLEST]
        yield image, [prompted(str(i), mask, rng) for i, mask in enumerate(masks)]


def measure(model: Predictor, data: Path) -> dict[str, object]:
    """Return the mean IoU by prompt, over all labels, and what `auto`'s thresholds keep."""
    found: dict[str, list[float]] = {}
    fates: list[tuple[float, float, float]] = []
    for image, objects in labelled(data):
        model.set_image(image)
        for item in objects:
            for prompt, mask in model_masks(model, item).items():
                found.setdefault(prompt, []).append(mask_iou(mask, item.mask))
            fates += fates_of(model, item, objects)
    means = {prompt: round(float(np.mean(values)), 4) for prompt, values in found.items()}
    return {"objects": len(found["box/model"]), **means, "kept": kept(np.array(fates))}


def fates_of(
    model: Predictor, item: PhotoObject, objects: list[PhotoObject]
) -> Iterator[tuple[float, float, float]]:
    """Yield of each of a point's three masks its best IoU with any object there, score, stability.

    Stability is the official one, at logits of 1 and -1.
    """
    pointed = model.predict(point_coords=item.points[:1], point_labels=[1], return_logits=True)
    x, y = item.points[0].astype(int)
    there = [other.mask for other in objects if other.mask[y, x]]
    for logits, score in zip(pointed.masks, pointed.iou_predictions, strict=True):
        best = max(mask_iou(logits > 0, mask) for mask in there)
        yield best, float(score), float((logits > 1).sum() / max(1, (logits > -1).sum()))


def kept(fates: npt.NDArray[np.float64]) -> list[dict[str, float]]:
    """Count what thresholds keep of masks [N, 3]: best IoU, score and stability of each."""
    rows = []
    for score, stability in THRESHOLDS:
        ious = fates[(fates[:, 1] > score) & (fates[:, 2] >= stability), 0]
        row = {"pred_iou": score, "stability": stability, "of": len(fates), "kept": len(ious)}
        if len(ious):
            row |= {"mean_iou": round(float(ious.mean()), 4)}
            row |= {"above_0.75": round(float((ious > 0.75).mean()), 4)}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="+", type=Path, help="what `samtrt export` wrote")
    parser.add_argument("--data", type=Path, required=True, help="what `consensus.py` wrote")
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    report = {}
    for directory in args.directory:
        with Predictor.load(directory, backend=args.backend) as model:
            digest = model.manifest.checkpoint.sha256
            report[directory.name] = {"sha256": digest, **measure(model, args.data)}
        print(directory.name, report[directory.name], flush=True)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
