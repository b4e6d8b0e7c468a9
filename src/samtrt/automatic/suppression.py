"""Non-maximum suppression of boxes, as `torchvision.ops.nms` defines it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def nms(boxes: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> npt.NDArray[np.intp]:
    """Keep each box that overlaps no kept box of a higher score by more than `threshold`.

    Equal scores keep their order. Overlap is intersection over union, in float32 as torchvision
    computes it; two boxes without area do not overlap.

    Args:
        boxes: [N, 4], XYXY; width is x2 - x1.
        scores: [N].
        threshold: IoU, 0..1.

    Returns:
        Indices of the kept boxes, by falling score.
    """
    sides = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    rest = by_score(scores)
    keep: list[int] = []
    while len(rest):
        first, rest = int(rest[0]), rest[1:]
        keep.append(first)
        rest = rest[~suppressed(sides[rest], sides[first], threshold)]
    return np.array(keep, dtype=np.intp)


def by_score(scores: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the order of falling scores [N], compared in float32; equal ones keep theirs."""
    return np.argsort(-np.asarray(scores, dtype=np.float32), kind="stable")


def suppressed(boxes: npt.ArrayLike, by: npt.ArrayLike, threshold: float) -> npt.NDArray[np.bool_]:
    """Tell which of the boxes [N, 4] overlap one box [4] by more than `threshold`: bool [N]."""
    sides = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    one = np.asarray(by, dtype=np.float32)
    low, high = sides[:, :2], sides[:, 2:]
    spans = np.minimum(one[2:], high) - np.maximum(one[:2], low)
    inter = np.maximum(spans, 0).prod(axis=1)
    union = (one[2:] - one[:2]).prod() + (high - low).prod(axis=1) - inter
    iou = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return np.asarray(iou.astype(np.float64) > threshold)
