"""Outputs of large pictures take memory for one mask at a time, and for its part alone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.cli import results
from samtrt.formats.annotation import ANY_OBJECT, AnnotatedImage, Annotation
from samtrt.formats.labelmap import label_map
from samtrt.formats.yolo import yolo_labels
from samtrt.masks import rle
from samtrt.masks.axes import axis_weights
from samtrt.masks.drawing import draw_masks
from samtrt.predictor import Predictor
from support.oracle import random_image

HEIGHT, WIDTH = 3000, 4000
PIXELS = HEIGHT * WIDTH


def peak(work: Callable[[], Any]) -> int:
    """Return the most bytes that work held at once through NumPy and Python."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def predictor(fake_predictor: Predictor) -> Predictor:
    fake_predictor.set_image(random_image(HEIGHT, WIDTH))
    return fake_predictor


def test_boxes_of_a_large_picture_are_packed_as_they_come(
    predictor: Predictor, tmp_path: Path
) -> None:
    boxes = [[x, 100, x + 900, 2000] for x in range(0, 3000, 50)]  # 60, 720 MB as masks

    def work() -> None:
        found = results.segment(predictor, {"boxes": boxes}, every=False)
        assert len(found.found) == 60
        results.write(found, predictor, "a.png", None, json=tmp_path / "a.json")

    assert peak(work) < 6 * PIXELS


def test_small_masks_of_a_large_picture_cost_little() -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[1000:1100, 2000:2200] = True
    one = Annotation.of(rle.encode(mask), {})
    many = AnnotatedImage("a.jpg", (HEIGHT, WIDTH), [one] * 50)
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert peak(lambda: yolo_labels(many, ANY_OBJECT)) < PIXELS // 8
    assert peak(lambda: label_map(many)) < PIXELS * 5 // 4
    overlay = peak(lambda: draw_masks(image, (one.patch for _ in range(50))))
    assert overlay < 3 * PIXELS * 5 // 4


def test_a_long_side_costs_as_much_as_it_is_long() -> None:
    assert peak(lambda: axis_weights(2_000_000, 1024, 1024, 256)) < 1 << 30
