"""Find objects in photographs without a model: labels for the share of real scenes.

Two kinds. *Regions* are compact segments with a strong edge. *Stable cuts* are what GrabCut makes
of a box, kept only where its own result's box gives the same cut again: noise does not survive
that, things with a colour of their own do.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

from borders import colour_step

CUT_SIDE = 224
MOST_CUTS = 8
_MOST_PROPOSALS = 14
_STABLE_IOU = 0.92


def regions(rgb: np.ndarray, scale: float) -> np.ndarray:
    """Label compact regions with a strong edge: uint8 [H, W], 0 where there is none.

    Regions come from Felzenszwalb and Huttenlocher's graph segmentation (2004). One is kept when
    it covers 0.5 to 40% of the picture, fills most of its convex hull, lies mostly off the frame,
    and differs in Lab from the ring around it by more than it varies inside.
    """
    smooth = cv2.bilateralFilter(rgb, 7, 40, 7)
    smallest = rgb.shape[0] * rgb.shape[1] // 400
    labels = felzenszwalb(smooth, scale=scale, sigma=0.8, min_size=smallest)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).astype(np.float32)
    out = np.zeros(labels.shape, np.uint8)
    kept = 0
    for label in np.flatnonzero(np.bincount(labels.ravel()) > 0.005 * labels.size):
        region = (labels == label).astype(np.uint8)
        contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if not contours:
            continue
        outline = max(contours, key=cv2.contourArea)
        region = cv2.drawContours(np.zeros_like(region), [outline], 0, 1, -1)
        region = cv2.morphologyEx(region, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        area = float(region.sum())
        if not 0.005 < area / region.size < 0.4:
            continue
        hull = cv2.contourArea(cv2.convexHull(outline))
        edge = region[0].sum() + region[-1].sum() + region[:, 0].sum() + region[:, -1].sum()
        if area < 0.65 * hull or edge > 0.3 * len(outline):
            continue
        step = colour_step(region, lab)
        if step > max(14.0, 0.9 * float(lab[region > 0].std(0).mean())) and kept < 250:
            kept += 1
            out[region > 0] = kept
    return out


def stable_cuts(rgb: np.ndarray) -> list[np.ndarray]:
    """Cut out what GrabCut agrees with itself on: bool [H, W] each, the surest first."""
    scale = CUT_SIDE / max(rgb.shape[:2])
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    found: list[tuple[float, np.ndarray]] = []
    for box in _proposals(small):
        first = _grab(small, box)
        if first is None:
            continue
        again = _grab(small, _box_of(first))
        if again is None or _iou(first, again) < _STABLE_IOU or _has_false_edge(again, lab):
            continue
        if any(_iou(again, other) > 0.75 for _, other in found):
            continue
        found.append((colour_step(again, lab), again))
    found.sort(key=lambda pair: -pair[0])
    size = (rgb.shape[1], rgb.shape[0])
    # Enlarged as a soft mask, so that its edge is smooth and not a staircase.
    return [
        cv2.resize(cut.astype(np.float32), size, interpolation=cv2.INTER_CUBIC) > 0.5
        for _, cut in found[:MOST_CUTS]
    ]


def stack(cuts: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Paint cuts into one label map, large ones first, dropping those that would be half hidden."""
    out = np.zeros(shape, np.uint8)
    for label, cut in enumerate(sorted(cuts, key=lambda c: -int(c.sum())), 1):
        whole = all(
            (cut & (out == other)).sum() < 0.1 * (out == other).sum()
            for other in np.unique(out[cut])
            if other
        )
        if whole:
            out[cut] = label
    return out


def _proposals(small: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Boxes worth a try: the middle of the picture, then boxes of segments and of pairs of them."""
    height, width = small.shape[:2]
    boxes = [
        (int(width * x), int(height * y), int(width * w), int(height * h))
        for x, y, w, h in ((0.15, 0.08, 0.7, 0.9), (0.25, 0.2, 0.5, 0.6))
    ]
    for scale in (150, 500, 1200):
        labels = felzenszwalb(small, scale=scale, sigma=0.8, min_size=150)
        boxes += _segment_boxes(labels)
    kept: list[tuple[int, int, int, int]] = []
    for box in boxes:
        share = box[2] * box[3] / (width * height)
        if 0.02 < share < 0.75 and all(_box_iou(box, other) < 0.7 for other in kept):
            kept.append(box)
    rng = np.random.default_rng(int(small.sum()) % 2**32)
    first, rest = kept[:2], kept[2:]
    rng.shuffle(rest)
    yield from (tuple(map(int, box)) for box in (first + rest)[:_MOST_PROPOSALS])  # type: ignore[misc]


def _segment_boxes(labels: np.ndarray) -> list[tuple[int, int, int, int]]:
    """XYWH boxes of segments and of neighbours taken together."""
    boxes = {}
    for label in np.unique(labels):
        ys, xs = np.nonzero(labels == label)
        if len(ys) > 0.01 * labels.size:
            boxes[int(label)] = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    pairs = set()
    for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        edge = a != b
        pairs |= {
            tuple(sorted(p)) for p in np.unique(np.stack([a[edge], b[edge]], 1), axis=0).tolist()
        }
    corners = list(boxes.values())
    for one, two in sorted(pairs):
        if one in boxes and two in boxes:
            p, q = boxes[one], boxes[two]
            corners.append((min(p[0], q[0]), min(p[1], q[1]), max(p[2], q[2]), max(p[3], q[3])))
    return [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners]


def _grab(small: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray | None:
    """GrabCut (Rother et al., 2004) from a box: its largest piece, None where it is no object."""
    mask = np.zeros(small.shape[:2], np.uint8)
    if min(box[2:]) < 16 or box[2] * box[3] > 0.9 * mask.size:
        return None
    try:
        cv2.grabCut(
            small, mask, box, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_RECT
        )
    except cv2.error:  # a box of one colour has no mixture to fit
        return None
    solid = (mask & 1).astype(np.uint8)
    solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    piece = (labels == largest).astype(np.uint8)
    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    piece = cv2.drawContours(piece, [outline], 0, 1, -1)
    area, hull = float(piece.sum()), cv2.contourArea(cv2.convexHull(outline))
    if area < 0.01 * piece.size or area < 0.5 * hull or solid.sum() > 1.3 * area:
        return None
    return piece


def _has_false_edge(piece: np.ndarray, lab: np.ndarray) -> bool:
    """Tell whether a side of the cut is where its box ended and nothing in the picture does."""
    x, y, w, h = _box_of(piece)
    height, width = piece.shape
    sides = (
        (x > 2, piece[:, x], lab[:, x + 1], lab[:, max(0, x - 3)], h),
        (
            x + w < width - 2,
            piece[:, x + w - 1],
            lab[:, x + w - 2],
            lab[:, min(x + w + 2, width - 1)],
            h,
        ),
        (y > 2, piece[y], lab[y + 1], lab[max(0, y - 3)], w),
        (y + h < height - 2, piece[y + h - 1], lab[y + h - 2], lab[min(y + h + 2, height - 1)], w),
    )
    for inside_frame, line, inner, outer, length in sides:
        touching = line > 0
        if inside_frame and touching.sum() > 0.3 * length:
            step = np.linalg.norm(inner[touching] - outer[touching], axis=1)
            if float(np.median(step)) < 12.0:
                return True
    return False


def _box_of(piece: np.ndarray) -> tuple[int, int, int, int]:
    x, y, w, h = cv2.boundingRect(piece)
    return int(x), int(y), int(w), int(h)


def _iou(one: np.ndarray, two: np.ndarray) -> float:
    union = np.logical_or(one, two).sum()
    return float(np.logical_and(one, two).sum() / max(1, union))


def _box_iou(one: tuple[int, int, int, int], two: tuple[int, int, int, int]) -> float:
    width = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    height = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    shared = max(0, width) * max(0, height)
    return float(shared / (one[2] * one[3] + two[2] * two[3] - shared))
