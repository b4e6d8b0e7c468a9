"""NMS against its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samtrt.nms import nms


def brute_force_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Visit boxes by falling score; keep each that overlaps no kept one too much."""
    keep: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(not _iou(boxes[i], boxes[j]) > threshold for j in keep):
            keep.append(i)
    return keep


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return float(np.float32(inter) / np.float32(union)) if union > 0 else 0.0


box = st.tuples(*[st.integers(0, 30)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@given(
    items=st.lists(st.tuples(box, st.sampled_from([0.1, 0.5, 0.5, 0.9, 1.0])), max_size=40),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
)
def test_as_by_definition(items: list[tuple[tuple[int, ...], float]], threshold: float) -> None:
    boxes = np.array([b for b, _ in items], dtype=np.int64).reshape(-1, 4)
    scores = np.array([s for _, s in items])
    assert nms(boxes, scores, threshold).tolist() == brute_force_nms(boxes, scores, threshold)


def test_equal_boxes_leave_the_best_and_equal_scores_the_first() -> None:
    boxes = [[0, 0, 10, 10]] * 3
    assert nms(boxes, [0.2, 0.9, 0.9], 0.7).tolist() == [1]
    assert nms(np.zeros((0, 4)), [], 0.7).tolist() == []
