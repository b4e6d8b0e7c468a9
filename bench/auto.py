"""Wall time of automatic masks beside the official generator, on the CPU.

    python bench/auto.py [--checkpoint FILE | --seeded] [--image FILE] [--rounds 3]

One process, one image, the same weights, settings and number of threads; after a few points to warm
up, they take turns. The official generator (segment-anything 1.0) runs on PyTorch as published, but
for torchvision's NMS, in whose place it gets samtrt's; the profile shows its share. samtrt runs on
ONNX Runtime. Also compares the masks, and counts what each filter drops. Writes a dated JSON to
docs/results/.

Needs the development group's segment-anything.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clock import Clock
from official_packages import official_sam, segment_anything_oracle
from samtrt import assets
from samtrt.automatic import candidates
from samtrt.automatic import generator as amg
from samtrt.automatic.suppression import nms
from samtrt.backends import BackendOptions
from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.decoding import select_masks
from samtrt.export.onnx import export_model
from samtrt.images import read_image
from samtrt.masks.logits import mask_iou
from samtrt.masks.upscaling import Upscaler
from samtrt.predictor import Predictor
from samtrt.preparation.prompts import build_prompts
from seeded import seeded_checkpoint

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
Record = dict[str, Any]
Run = Callable[[], list[Record]]


def official(sam: Any, image: np.ndarray, options: dict[str, Any], clock: Clock) -> Run:
    segment_anything_oracle()
    module = importlib.import_module("segment_anything.automatic_mask_generator")

    def batched_nms(
        boxes: torch.Tensor, scores: torch.Tensor, _: torch.Tensor, iou_threshold: float
    ) -> torch.Tensor:
        return torch.from_numpy(nms(boxes.numpy(), scores.numpy(), iou_threshold))

    module.batched_nms = batched_nms
    model = official_sam(sam.spec)
    model.load_state_dict(sam.state_dict())
    generator = module.SamAutomaticMaskGenerator(model, output_mode="coco_rle", **options)
    clock.watch(generator.predictor, "set_image", "encoder")
    clock.watch(model.prompt_encoder, "forward", "decoder")
    clock.watch(model.mask_decoder, "forward", "decoder")
    clock.watch(model, "postprocess_masks", "upscaling")
    clock.watch(module, "calculate_stability_score", "stability")
    clock.watch(module, "mask_to_rle_pytorch", "RLE")
    clock.watch(module, "batched_mask_to_box", "boxes")
    clock.watch(module, "batched_nms", "NMS")
    return lambda: generator.generate(image)  # type: ignore[no-any-return]


def ours(predictor: Predictor, image: np.ndarray, options: dict[str, Any], clock: Clock) -> Run:
    clock.watch(predictor, "encode", "encoder")
    clock.watch(predictor, "decode_wanted", "decoder")
    generator = amg.AutomaticMaskGenerator(predictor, output_mode="coco_rle", **options)
    return lambda: generator.generate(image)  # type: ignore[return-value]


def funnel(predictor: Predictor, image: np.ndarray, options: dict[str, Any]) -> dict[str, Any]:
    """Count what each filter drops, and what a score from low-res logits alone would get wrong."""
    generator = amg.AutomaticMaskGenerator(predictor, **options)
    model, size = predictor.manifest, (image.shape[0], image.shape[1])
    embedding = predictor.encode(image)
    upscaler = Upscaler(embedding.frame)
    test = candidates.StabilityTest(
        model.mask_threshold, generator.stability_score_offset, generator.stability_score_thresh
    )
    points = generator.grids[0][:, None] * (size[1], size[0])
    counts, area = defaultdict[str, int](int), 0
    rows, columns = (-(-side // 4) for side in embedding.frame.resized)
    for start in range(0, len(points), 64):
        part = points[start : start + 64]
        prompts = build_prompts(embedding.frame, part, np.ones((len(part), 1)))
        logits, scores = select_masks(*predictor.decode(embedding, prompts), True)
        counts["decoded"] += scores.size
        for low in logits[scores > generator.pred_iou_thresh]:
            counts["over_pred_iou_thresh"] += 1
            part = upscaler.parts(low[None], upscaler.above(low[None], test.lowest))[0]
            sure = test.surely_fails(part, upscaler)
            counts["dropped_by_bounds"] += sure
            strips = list(upscaler.strips(part))
            area += 0 if sure else sum(strip.values.size for strip in strips)
            passes = test.passes(test.score(sum(test.counts(strip.values) for strip in strips)))
            counts["stable"] += passes
            assert not (sure and passes)
            by_low_res = test.passes(test.score(test.counts(low[:rows, :columns])))
            counts["low_res_score_would_drop"] += passes and not by_low_res
            counts["low_res_score_would_keep"] += by_low_res and not passes
    formed = counts["over_pred_iou_thresh"] - counts["dropped_by_bounds"]
    share = area / (formed * size[0] * size[1]) if formed else 0.0
    return {**counts, "mean_share_of_image_formed": round(share, 4)}


def agreement(mine: list[Record], theirs: list[Record]) -> dict[str, Any]:
    """Match masks by place in the list; both are sorted by score."""
    from pycocotools import mask as coco

    pairs = list(zip(mine, theirs, strict=False))
    ious = [
        mask_iou(*(coco.decode(r["segmentation"]).astype(bool) for r in pair)) for pair in pairs
    ]
    return {
        "masks": [len(mine), len(theirs)],
        "least_iou": min(ious, default=None),
        "identical_masks": sum(iou == 1 for iou in ious),
        "same_boxes": sum(a["bbox"] == b["bbox"] for a, b in pairs),
        "same_points": sum(a["point_coords"] == b["point_coords"] for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=assets.SMALL_CHECKPOINT)
    parser.add_argument("--seeded", action="store_true", help="use a checkpoint of seeded noise")
    parser.add_argument("--image", type=Path, default=assets.DEMO_PHOTOGRAPH)
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--pred-iou-thresh", type=float, default=0.88)
    parser.add_argument("--stability-score-thresh", type=float, default=0.95)
    parser.add_argument("--stability-score-offset", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--label", default="small", help="a word for the result's file name")
    arguments = parser.parse_args()
    names = ["points_per_side", "pred_iou_thresh", "stability_score_thresh"]
    options = {name: getattr(arguments, name) for name in [*names, "stability_score_offset"]}
    torch.set_num_threads(arguments.threads)
    if arguments.seeded:
        arguments.checkpoint = seeded_checkpoint(Path(tempfile.mkdtemp()) / "seeded.safetensors")
    image, checkpoint = read_image(arguments.image), load_checkpoint(arguments.checkpoint)
    sam = load_sam(checkpoint)
    load_before = os.getloadavg()
    clocks: dict[str, Clock] = {name: Clock() for name in ("official", "samtrt")}
    with tempfile.TemporaryDirectory() as folder:
        export_model(checkpoint, Path(folder))
        runtime = BackendOptions(threads=arguments.threads, checkpoint=arguments.checkpoint)
        plain = {name: getattr(candidates.Sieve, name) for name in ("survey", "form")}
        onnx = Predictor.load(folder, options=runtime)
        counts = funnel(onnx, image, options)
        few = {**options, "points_per_side": 4}  # warms up
        official(sam, image, few, Clock())()
        ours(onnx, image, few, Clock())()
        runs: dict[str, Run] = {
            "official": official(sam, image, options, clocks["official"]),
            "samtrt": ours(onnx, image, options, clocks["samtrt"]),
        }
        walls: dict[str, list[float]] = {name: [] for name in runs}
        found: dict[str, list[Record]] = {}
        for turn in range(arguments.rounds):
            for name, run in runs.items():
                for method, function in plain.items():
                    setattr(candidates.Sieve, method, function)
                    clocks[name].watch(candidates.Sieve, method, f"{method} (threads)")
                start = time.perf_counter()
                found[name] = run()
                walls[name].append(time.perf_counter() - start)
                load = os.getloadavg()[0]
                print(f"{name:15} {turn}: {walls[name][-1]:.2f} s, load {load:.1f}", flush=True)
    rows = {
        name: {
            "wall_s": [round(wall, 3) for wall in times],
            "median_s": round(statistics.median(times), 3),
            "mean_profile_s": {
                label: round(seconds / arguments.rounds, 3)
                for label, seconds in clocks[name].seconds.items()
            },
        }
        for name, times in walls.items()
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu_count": os.cpu_count(),
            "processor": platform.processor(),
            "load_before": load_before,
            "load_after": os.getloadavg(),
        },
        "model": sam.spec.name,
        "checkpoint": arguments.checkpoint.name,
        "image": [arguments.image.name, *image.shape[:2]],
        "threads": arguments.threads,
        "options": options,
        "rows": rows,
        "speedup": round(rows["official"]["median_s"] / rows["samtrt"]["median_s"], 2),
        "filters": counts,
        "agreement": agreement(found["samtrt"], found["official"]),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"auto-{arguments.label}-{result['date']}.json"
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
