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
    low, high = sides[:, :2], sides[:, 2:]
    areas = (high - low).prod(axis=1)
    rest = np.argsort(-np.asarray(scores, dtype=np.float32), kind="stable")
    keep: list[int] = []
    while len(rest):
        first, rest = int(rest[0]), rest[1:]
        keep.append(first)
        spans = np.minimum(high[first], high[rest]) - np.maximum(low[first], low[rest])
        inter = np.maximum(spans, 0).prod(axis=1)
        union = areas[first] + areas[rest] - inter
        iou = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
        rest = rest[iou.astype(np.float64) <= threshold]
    return np.array(keep, dtype=np.intp)
