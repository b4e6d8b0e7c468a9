"""Measure a checkpoint on held-out scenes: objects and photographs that training never saw.

    PYTHONPATH=src python training/evaluate.py --data .data/parts \
        --weights src/samtrt_assets/vit_s.safetensors --out docs/results/vit_s-heldout.json

Prompts are simulated as in the paper (section 7.1): the first point is the one deepest inside the
mask, every further one the point deepest inside the larger kind of error.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import Tensor

from choosing import usable
from pool import load_pool
from samtrt.models import Sam, build_sam
from samtrt.registry import get_spec
from scenes import SIDE, Composer, Scenes, normalise

POINTS = 5
AREAS = {"below 1%": (0.0, 0.01), "1 to 3%": (0.01, 0.03), "above 3%": (0.03, 1.0)}
"""Shares of the frame that objects are sorted by."""
TARGETS = {"point": 0.75, "box": 0.85, "five_points": 0.88, "spearman": 0.5}


def load_model(name: str, weights: Path, device: torch.device) -> Sam:
    """Build `name` and load its weights strictly, in float32."""
    model = build_sam(get_spec(name))
    model.load_state_dict({k: v.float() for k, v in load_file(weights).items()}, strict=True)
    return model.to(device)


def depths(region: np.ndarray) -> np.ndarray:
    """How far each pixel of a region lies from its edge: float32 [H, W], 0 outside."""
    # A border of zeros makes the frame an edge.
    padded = np.pad(region.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1])


def deepest(region: np.ndarray) -> tuple[float, float, float]:
    """The pixel farthest from the region's edge: x, y, and that distance."""
    distance = depths(region)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x), float(y), float(distance[y, x])


def next_point(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float, int]:
    """The next corrective click: x, y, label."""
    missing = deepest(truth & ~predicted)
    extra = deepest(predicted & ~truth)
    if max(missing[2], extra[2]) == 0:  # nothing left to correct
        missing = deepest(truth)
    return (*missing[:2], 1) if missing[2] >= extra[2] else (*extra[:2], 0)


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float((predicted & truth).sum() / max(1, (predicted | truth).sum()))


class Prompter:
    """Asks one model about one encoded scene, whose pixels prompts and masks are in.

    A model with a larger frame sees the scene enlarged, as the predictor would show it.
    """

    def __init__(self, model: Sam, embedding: Tensor, side: int = SIDE) -> None:
        self.model, self.embedding, self.side = model, embedding, side

    @torch.inference_mode()
    def __call__(
        self, coords: list[list[tuple[float, float]]], labels: list[list[int]], low: Tensor | None
    ) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Return low-res logits [P,4,M,M], masks bool [P,4,S,S] and scores [P,4]."""
        device, count = self.embedding.device, len(coords)
        side, scale = self.model.spec.mask_size, self.model.spec.image_size / self.side
        mask = torch.zeros(count, 1, side, side, device=device) if low is None else low
        logits, scores = self.model.decode(
            self.embedding,
            torch.tensor(coords, device=device) * scale,
            torch.tensor(labels, device=device),
            mask,
            torch.full((count,), float(low is not None), device=device),
        )
        full = F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)
        if scale != 1:
            full = F.interpolate(full, size=self.side, mode="bilinear", align_corners=False)
        return logits, (full > 0).cpu().numpy(), scores.cpu().numpy()


def measure_scene(ask: Prompter, truths: list[np.ndarray]) -> dict[str, list[float]]:
    """IoU of every mask of a scene from a point, a box and 1 to 5 corrective points."""
    rows = np.arange(len(truths))
    clicks = [[(*deepest(t)[:2], 1)] for t in truths]
    scored: list[tuple[float, float]] = []
    found: dict[str, list[float]] = {f"points_{n}": [] for n in range(1, POINTS + 1)}
    low: Tensor | None = None
    for turn in range(POINTS):
        logits, masks, scores = ask(
            [[(x, y) for x, y, _ in c] + [(0.0, 0.0)] for c in clicks],
            [[k for _, _, k in c] + [-1] for c in clicks],
            low,
        )
        best = 1 + scores[:, 1:].argmax(1) if turn == 0 else np.zeros_like(rows)
        chosen = masks[rows, best]
        found[f"points_{turn + 1}"] = [iou(m, t) for m, t in zip(chosen, truths, strict=True)]
        scored += zip(scores[rows, best].tolist(), found[f"points_{turn + 1}"], strict=True)
        if turn == 0:  # the two masks that were not chosen count for the ranking too
            for k in (1, 2, 3):
                pairs = [(float(scores[p, k]), iou(masks[p, k], truths[p])) for p in rows]
                scored += [pair for p, pair in enumerate(pairs) if best[p] != k]
        low = logits[torch.as_tensor(rows), torch.as_tensor(best)][:, None]
        for click, mask, truth in zip(clicks, chosen, truths, strict=True):
            click.append(next_point(mask, truth))
    corners = []
    for truth in truths:
        ys, xs = np.nonzero(truth)
        corners.append([(float(xs.min()), float(ys.min())), (float(xs.max()), float(ys.max()))])
    _, masks, scores = ask(corners, [[2, 3]] * len(truths), None)
    found["box"] = [iou(m, t) for m, t in zip(masks[:, 0], truths, strict=True)]
    scored += zip(scores[:, 0].tolist(), found["box"], strict=True)
    found["area"] = [float(truth.mean()) for truth in truths]
    found["score"], found["true_iou"] = [s for s, _ in scored], [v for _, v in scored]
    return found


def truths_of(scenes: Scenes, index: int) -> list[np.ndarray]:
    """The visible masks of one scene of a batch: bool [S, S] each."""
    ids = scenes.ids[index].cpu().numpy()
    return [ids == k for k in usable(scenes)[index].nonzero()[:, 0].tolist()]


def by_area(values: list[float], area: list[float]) -> dict[str, float]:
    """Mean of the values of objects of each size in AREAS that there is; area in 0..1."""
    value, share = np.array(values), np.array(area)
    found = {name: value[(share >= low) & (share < high)] for name, (low, high) in AREAS.items()}
    return {name: round(float(v.mean()), 4) for name, v in found.items() if len(v)}


def reliability(score: list[float], true_iou: list[float]) -> dict[str, object]:
    """Compare predicted IoU with true IoU: a reliability diagram in tenths, and its mean error.

    Each row of the diagram is [mean predicted, mean true, masks] of the masks whose predicted IoU
    lies in that tenth (those outside 0..1 count for the nearest). The error is the mean distance
    of the two, weighted by masks: the expected calibration error of Guo et al. (2017).
    """
    scores, trues = np.array(score), np.array(true_iou)
    tenth = np.clip((scores * 10).astype(int), 0, 9)
    rows = [
        [float(scores[here].mean()), float(trues[here].mean()), int(here.sum())]
        for here in (tenth == k for k in range(10))
        if here.any()
    ]
    error = sum(count * abs(told - true) for told, true, count in rows) / len(scores)
    diagram = [[round(told, 3), round(true, 3), count] for told, true, count in rows]
    return {"calibration_error": round(error, 4), "reliability": diagram}


def measure(model: Sam, composer: Composer, count: int, batch: int = 20) -> dict[str, object]:
    """Mean IoU over all masks of `count` held-out scenes, and how its scores compare with IoU."""
    found: dict[str, list[float]] = {}
    done = 0
    while done < count:
        scenes = composer.composed(min(batch, count - done))
        with torch.inference_mode():
            side = model.spec.image_size
            shown = scenes if side == scenes.side else scenes.enlarged(side)
            # A few at a time: global attention of 1024 pixels takes 0.3 GB a picture and block.
            parts = normalise(shown).split(4)
            embeddings = torch.cat([model.image_encoder(part) for part in parts])
        for i in range(len(embeddings)):
            if truths := truths_of(scenes, i):
                ask = Prompter(model, embeddings[i : i + 1], scenes.side)
                measured = measure_scene(ask, truths)
                for key, values in measured.items():
                    found.setdefault(key, []).extend(values)
        done += len(embeddings)
    score, true_iou, area = (found.pop(key) for key in ("score", "true_iou", "area"))
    means = {key: round(float(np.mean(values)), 4) for key, values in found.items()}
    return {
        "scenes": count,
        "masks": len(found["box"]),
        "point": means["points_1"],
        "box": means["box"],
        "five_points": means[f"points_{POINTS}"],
        "by_points": [means[f"points_{n}"] for n in range(1, POINTS + 1)],
        "box_by_area": by_area(found["box"], area),
        "spearman": round(float(spearmanr(score, true_iou).statistic), 4),
        **reliability(score, true_iou),
        "targets": TARGETS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--model", default="vit_s")
    parser.add_argument("--scenes", type=int, default=320)
    parser.add_argument("--seed", type=int, default=20261)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, help="pictures of each kind, for a rehearsal")
    args = parser.parse_args()
    device = torch.device(args.device)
    model = load_model(args.model, args.weights, device)
    pool = load_pool(args.data, "heldout", device, args.limit)
    generator = torch.Generator(device).manual_seed(args.seed)
    result = measure(model, Composer(pool, generator), args.scenes)
    gpu = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    result |= {"objects": len(pool.objects), "photos": len(pool.photos), "seed": args.seed}
    result |= {"device": gpu, "torch": torch.__version__}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
