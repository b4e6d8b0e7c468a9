"""NMS against its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samtrt.automatic.suppression import nms
from support.suppression import brute_force_nms

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
