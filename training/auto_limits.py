"""Tell what keeps `samtrt auto` from finding more in the hand-labelled photographs.

    PYTHONPATH=src python training/auto_limits.py MODEL_DIRECTORY --photo coffee --photo astronaut

All masks of a grid of points are formed with no filter on, once for each stability offset. Then the
filters are replayed: how many masks each leaves, at the model's own thresholds and at lower ones.
The outlines by hand say how good the best of all masks for an object is, and what becomes of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from photo_set import MORE_PHOTOS, PHOTOS, Photo, load_photos
from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.automatic.suppression import nms
from samtrt.predictor import Predictor
from samtrt.registry import MaskThresholds
from samtrt.types import BoolArray

NMS = AutomaticMaskGenerator.box_nms_thresh
USUAL = AutomaticMaskGenerator.stability_score_offset
"""The stability offset. Half of it stands for logits twice as steep (`steepen.py`)."""
SCORES = (0.88, 0.75, 0.6, 0.5, 0.4, 0.3, 0.0)
STABILITIES = (0.95, 0.88, 0.8, 0.0)


@dataclass(frozen=True)
class Candidates:
    """All N masks of one photograph, none filtered.

    Attributes:
        masks: Compressed RLE, one a mask.
        boxes: float [N, 4], XYXY.
        scores: float [N], predicted IoU.
        stability: float [N] by offset; NaN for an empty mask.
    """

    masks: list[dict[str, Any]]
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    stability: dict[float, npt.NDArray[np.float64]]

    def passing(self, at: MaskThresholds, offset: float = USUAL) -> BoolArray:
        """Tell which masks pass both thresholds, of which 0 lets everything pass: bool [N]."""
        scored = (self.scores > at.pred_iou) | (at.pred_iou <= 0)
        return scored & ((self.stability[offset] >= at.stability) | (at.stability <= 0))

    def kept(
        self, at: MaskThresholds, offset: float = USUAL, scores: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.intp]:
        """Return the indices of the masks that are left after NMS by `scores` (the model's own)."""
        passing = np.flatnonzero(self.passing(at, offset))
        order = self.scores if scores is None else np.asarray(scores)
        return passing[nms(self.boxes[passing], order[passing], NMS)]


def candidates(
    predictor: Predictor, photo: Photo, points_per_side: int, offsets: list[float]
) -> Candidates:
    """Form all masks of a grid of points, with the stability at each of these offsets."""
    bare = AutomaticMaskGenerator(
        predictor,
        points_per_side=points_per_side,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        box_nms_thresh=1.0,
        output_mode="coco_rle",
    )
    embedding = predictor.encode(photo.image)
    records = {
        offset: replace(bare, stability_score_offset=offset).generate(embedding)
        for offset in offsets
    }
    first = records[offsets[0]]
    # Same masks, same scores, same order: only the stability differs.
    assert all([r["bbox"] for r in some] == [r["bbox"] for r in first] for some in records.values())
    boxes = np.array([r["bbox"] for r in first], dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return Candidates(
        masks=[dict(r["segmentation"]) for r in first],
        boxes=boxes,
        scores=np.array([r["predicted_iou"] for r in first]),
        stability={
            offset: np.array([r["stability_score"] for r in some])
            for offset, some in records.items()
        },
    )


def ious(found: Candidates, photo: Photo) -> npt.NDArray[np.float64]:
    """Return the IoU of each mask with each outline by hand, [N, objects]."""
    outlines = [coco_mask.encode(np.asfortranarray(item.mask, np.uint8)) for item in photo.objects]
    return np.asarray(coco_mask.iou(found.masks, outlines, [0] * len(outlines)))


def fates(
    found: Candidates, photo: Photo, own: MaskThresholds
) -> list[dict[str, float | str | bool]]:
    """Tell of each outlined object how good a mask there is and what the filters leave of it."""
    overlap = ious(found, photo)
    kept = found.kept(own)
    oracle = found.kept(MaskThresholds(0, 0), scores=overlap.max(axis=1))
    rows: list[dict[str, float | str | bool]] = []
    for i, item in enumerate(photo.objects):
        best = int(overlap[:, i].argmax())
        good = overlap[:, i] >= 0.75
        rows.append(
            {
                "photo": photo.name,
                "object": item.name,
                "best": round(float(overlap[best, i]), 3),
                "its score": round(float(found.scores[best]), 3),
                "its stability": round(float(found.stability[USUAL][best]), 3),
                "good masks": int(good.sum()),
                "their best score": round(float(found.scores[good].max(initial=0)), 3),
                "kept": round(float(overlap[kept, i].max(initial=0)), 3),
                "kept with true scores": round(float(overlap[oracle, i].max(initial=0)), 3),
            }
        )
    return rows


def counts(found: Candidates, own: MaskThresholds) -> dict[str, Any]:
    """Count what each filter drops at the model's thresholds, and what is left at others."""
    scored = found.passing(MaskThresholds(own.pred_iou, 0))
    passing = found.passing(own)
    kept = found.kept(own)
    return {
        "masks": len(found.scores),
        "dropped by score": int((~scored).sum()),
        "then by stability": int((scored & ~passing).sum()),
        "then by NMS": int(passing.sum()) - len(kept),
        "kept": len(kept),
        "kept at": {
            f"offset {offset}": {
                f"stability {stability}": {
                    str(score): len(found.kept(MaskThresholds(score, stability), offset))
                    for score in SCORES
                }
                for stability in STABILITIES
            }
            for offset in found.stability
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--photo", action="append", help="name of one; without it all of both sets")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--offset", type=float, action="append", help="of stability, beside 1")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    photos = [*load_photos(PHOTOS), *load_photos(MORE_PHOTOS)]
    if args.photo:
        if unknown := set(args.photo) - {photo.name for photo in photos}:
            parser.error(f"no photograph is called {', '.join(sorted(unknown))}")
        photos = [photo for photo in photos if photo.name in args.photo]
    predictor = Predictor.load(args.model)
    own = predictor.manifest.automatic
    offsets = [USUAL, *(args.offset or [])]
    result: dict[str, Any] = {"thresholds": [own.pred_iou, own.stability], "photos": {}}
    for photo in photos:
        found = candidates(predictor, photo, args.points_per_side, offsets)
        result["photos"][photo.name] = {
            **counts(found, own),
            "objects": fates(found, photo, own),
        }
        print(json.dumps({photo.name: result["photos"][photo.name]}, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
