"""Automatic masks on one GPU, end to end: our engines beside the official generator.

    python bench/seeded.py vit_b seeded.safetensors
    samtrt export seeded.safetensors -o DIR --opset 17 --attention plugin     # and samtrt build
    python bench/auto_gpu.py samtrt DIR --json ours.json
    python bench/auto_gpu.py official seeded.safetensors --json theirs.json
    python bench/auto_gpu.py compare ours.json theirs.json

One image of 1800 x 1200, 32 x 32 points; wall time of a whole `generate`, from pixels to RLE of
every mask. Of seeded weights the default filters keep nearly everything: use 1.9 and 0.93.
The official generator (segment-anything 1.0) runs on PyTorch as published, in float32, on the same
GPU. The sides may run in two Pythons: ours needs no PyTorch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samtrt import assets
from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.backends import BackendOptions
from samtrt.images import read_image
from samtrt.masks import rle
from samtrt.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent
SIZE = (1800, 1200)


def photograph() -> np.ndarray:
    """Return the demo's photograph, cut and resized to 1800 x 1200."""
    image = read_image(assets.DEMO_PHOTOGRAPH)
    height, width = image.shape[:2]
    cut = min(height, width * SIZE[1] // SIZE[0])
    return cv2.resize(image[:cut, : cut * SIZE[0] // SIZE[1]], SIZE, interpolation=cv2.INTER_CUBIC)


def ours(options: argparse.Namespace) -> dict[str, Any]:
    backend = BackendOptions(device=options.device)
    with Predictor.load(options.directory, options.backend, backend) as predictor:
        generator = AutomaticMaskGenerator(predictor, **settings(options))
        return measure(lambda: generator.generate(photograph_once), options.rounds)


def official(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from official_packages import official_sam, segment_anything_oracle
    from samtrt.automatic.suppression import nms
    from samtrt.checkpoints.load import load_checkpoint, load_sam

    segment_anything_oracle()
    from segment_anything import automatic_mask_generator as module

    def batched_nms(boxes: Any, scores: Any, _: Any, iou_threshold: float) -> Any:
        kept = nms(boxes.cpu().numpy(), scores.cpu().numpy(), iou_threshold)
        return torch.from_numpy(kept).to(boxes.device)

    module.batched_nms = batched_nms  # torchvision's has no build for every PyTorch
    sam = load_sam(load_checkpoint(options.checkpoint))
    model = official_sam(sam.spec)
    model.load_state_dict(sam.state_dict())
    model.to(options.device)
    generator = module.SamAutomaticMaskGenerator(model, **settings(options))
    return measure(lambda: generator.generate(photograph_once), options.rounds)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("points_per_side", "pred_iou_thresh", "stability_score_thresh")
    return {**{name: getattr(options, name) for name in names}, "output_mode": "uncompressed_rle"}


def measure(run: Any, rounds: int) -> dict[str, Any]:
    """Run a generator twice to warm up, then `rounds` times."""
    run(), run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        records = run()
        times.append((time.perf_counter() - start) * 1e3)
    return {
        "ms": {
            "p50": round(statistics.median(times), 1),
            "least": round(min(times), 1),
            "most": round(max(times), 1),
        },
        "masks": [
            {
                "size": list(record["segmentation"]["size"]),
                "counts": [int(count) for count in record["segmentation"]["counts"]],
                "point": record["point_coords"][0],
                "score": float(record["predicted_iou"]),
            }
            for record in records
        ],
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Match masks by the point that they come from; count how well they agree."""
    mine, theirs = (json.loads(path.read_text()) for path in (options.ours, options.theirs))
    decoded: list[dict[Any, np.ndarray]] = [{}, {}]
    for side, document in zip(decoded, (mine, theirs), strict=True):
        for record in document["masks"]:
            mask = rle.decode({"size": tuple(record["size"]), "counts": record["counts"]})
            side.setdefault(tuple(np.round(record["point"], 2)), []).append(mask)
    ious = []
    for point, masks in decoded[0].items():
        for mask in masks:
            others = decoded[1].get(point, [])
            ious.append(
                max(((mask & o).sum() / max((mask | o).sum(), 1) for o in others), default=0)
            )
    return {
        "masks": [len(mine["masks"]), len(theirs["masks"])],
        "mean_iou": float(np.mean(ious)) if ious else None,
        "found_with_iou_over_0.9": int(np.sum(np.array(ious) > 0.9)),
        "speedup": round(theirs["ms"]["p50"] / mine["ms"]["p50"], 2),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("samtrt")
    one.add_argument("directory", type=Path)
    one.add_argument("--backend", default="tensorrt")
    one.set_defaults(run=ours)
    two = commands.add_parser("official")
    two.add_argument("checkpoint", type=Path)
    two.set_defaults(run=official)
    for side in (one, two):
        side.add_argument("--device", default="cuda")
        side.add_argument("--points-per-side", type=int, default=32)
        side.add_argument("--pred-iou-thresh", type=float, default=0.88)
        side.add_argument("--stability-score-thresh", type=float, default=0.95)
        side.add_argument("--rounds", type=int, default=10)
    last = commands.add_parser("compare")
    last.add_argument("ours", type=Path)
    last.add_argument("theirs", type=Path)
    last.set_defaults(run=compare)
    for command in commands.choices.values():
        command.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = parse()
    result = options.run(options)
    if options.json:
        options.json.write_text(json.dumps(result) + "\n")
    shown = {**result, "masks": len(result["masks"])} if "ms" in result else result
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    photograph_once = photograph()
    main()
