"""What both sides of `bench/video_gpu.py` work on: frames, objects, and masks to compare."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (720, 1280)
KEPT = 12
"""Frames whose masks are kept for the comparison."""
SUBJECTS = ("float32", "eager", "compiled")
"""Of the official package: the first for its masks alone."""


def frames(count: int) -> list[np.ndarray]:
    """Return frames, uint8 [H, W, 3]: a picture that the camera passes over, with eight squares."""
    height, width = SIZE
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)
    large = np.asarray(
        Image.fromarray(coarse).resize((width + 256, height + 144), Image.Resampling.BICUBIC)
    )
    colours = rng.integers(0, 256, (8, 3), dtype=np.uint8)
    found = []
    for number in range(count):
        y, x = number % 144, (2 * number) % 256
        frame = large[y : y + height, x : x + width].copy()
        for (top, left), colour in zip(corners(number), colours, strict=True):
            frame[top : top + 120, left : left + 120] = colour
        found.append(frame)
    return found


def corners(number: int) -> list[tuple[int, int]]:
    """Return where the squares are on a frame."""
    return [(100 + 380 * (k // 4), 100 + 280 * (k % 4) + (2 * number) % 100) for k in range(8)]


def clicks(objects: int) -> list[list[float]]:
    """Return a point on each of so many objects on the first frame, XY."""
    return [[left + 60.0, top + 60.0] for top, left in corners(0)[:objects]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both sides take."""
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return milliseconds: the median, and what 95 of 100 stay below."""
    p50, p95 = np.quantile(seconds, (0.5, 0.95)) * 1e3
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


def save_masks(path: Path, masks: dict[int, list[np.ndarray]]) -> None:
    """Write masks, bool [N, H, W] a frame, by the number of objects followed together."""
    np.savez_compressed(path, **{str(n): np.packbits(np.stack(m), -1) for n, m in masks.items()})


def compared(path: Path, reference: Path) -> dict[str, Any]:
    """Return mean and worst IoU of all masks with the reference's, by the number of objects."""
    found = {}
    with np.load(path) as ours, np.load(reference) as theirs:
        for name in sorted({*ours.files} & {*theirs.files}):
            count = min(len(ours[name]), len(theirs[name]))
            mine, other = (np.unpackbits(one[name][:count], -1) > 0 for one in (ours, theirs))
            union = np.count_nonzero(mine | other, axis=(-2, -1))
            shared = np.count_nonzero(mine & other, axis=(-2, -1))
            iou = np.where(union, shared / np.maximum(union, 1), 1.0)
            found[name] = {
                "mean": round(float(iou.mean()), 4),
                "worst": round(float(iou.min()), 4),
                "last_frame": round(float(iou[-1].mean()), 4),
                "share_of_picture": round(float(other.mean()), 3),
            }
    return found


def write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n")
