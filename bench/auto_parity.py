"""Automatic masks beside the official generator's, mask by mask.

    python bench/auto_parity.py [--checkpoint FILE | --seeded] [--images FILE ...]

For each image, with default settings and with one layer of crops: how many masks each gives, how
many of the official ones samtrt gives too (matched by IoU), and how many fields agree. Both run
PyTorch in float32 on the same weights, so that what differs is the generator; the official one has
an NMS written from its definition. Writes a dated JSON
to docs/results/ and prints a table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from official_packages import official_sam, segment_anything_oracle
from samtrt import assets
from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.images import read_image
from samtrt.masks.logits import mask_iou
from samtrt.official.model import SamModel
from seeded import seeded_checkpoint

ROOT = Path(__file__).parent.parent
Record = dict[str, Any]


def compare(ours: list[Record], theirs: list[Record]) -> dict[str, Any]:
    """Match each official mask with ours of the highest IoU; compare the fields of matches."""
    ious, boxes, points, order = [], 0, 0, 0
    for place, other in enumerate(theirs):
        candidates = [mask_iou(mine["segmentation"], other["segmentation"]) for mine in ours]
        best = int(np.argmax(candidates)) if candidates else -1
        ious.append(candidates[best] if candidates else 0.0)
        if candidates:
            boxes += ours[best]["bbox"] == other["bbox"]
            points += ours[best]["point_coords"] == other["point_coords"]
            order += best == place
    return {
        "masks": [len(ours), len(theirs)],
        "matched_at_0.99": sum(iou >= 0.99 for iou in ious),
        "identical": sum(iou == 1 for iou in ious),
        "least_iou": round(min(ious, default=1.0), 5),
        "same_box": boxes,
        "same_point": points,
        "same_place": order,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=assets.SMALL_CHECKPOINT)
    parser.add_argument("--seeded", action="store_true", help="use a checkpoint of seeded noise")
    parser.add_argument("--points-per-side", type=int, default=12)
    parser.add_argument("--images", type=Path, nargs="+", help="default: crops of the photograph")
    parser.add_argument("--pred-iou-thresh", type=float, default=0.88)
    parser.add_argument("--stability-score-thresh", type=float, default=0.95)
    parser.add_argument("--stability-score-offset", type=float, default=1.0)
    parser.add_argument("--box-nms-thresh", type=float, default=0.7)
    parser.add_argument("--label", default="small", help="a word for the result's file name")
    arguments = parser.parse_args()
    names = ["points_per_side", "pred_iou_thresh", "stability_score_thresh"]
    names += ["stability_score_offset", "box_nms_thresh"]
    settings = {name: getattr(arguments, name) for name in names}
    images = (
        {path.name: read_image(path) for path in arguments.images}
        if arguments.images
        else assets.verification_images()
    )
    if arguments.seeded:
        arguments.checkpoint = seeded_checkpoint(Path(tempfile.mkdtemp()) / "seeded.safetensors")
    model = SamModel(arguments.checkpoint)
    sam = load_sam(load_checkpoint(arguments.checkpoint))
    theirs_sam = official_sam(sam.spec)
    theirs_sam.load_state_dict(sam.state_dict())
    module = segment_anything_oracle().automatic_mask_generator
    rows = []
    for name, image in images.items():
        for layers in (0, 1):
            options = {**settings, "crop_n_layers": layers}
            ours: Any = AutomaticMaskGenerator(model.predictor, **options).generate(image)
            theirs = module.SamAutomaticMaskGenerator(theirs_sam, **options).generate(image)
            row = {"image": name, "size": image.shape[:2], "crop_n_layers": layers}
            rows.append({**row, **compare(ours, theirs)})
            print(json.dumps(rows[-1]), flush=True)
    date = datetime.date.today().isoformat()
    result = {
        "date": date,
        "model": sam.spec.name,
        "checkpoint": arguments.checkpoint.name,
        "settings": settings,
        "rows": rows,
    }
    out = ROOT / "docs" / "results" / f"auto-parity-{arguments.label}-{date}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
