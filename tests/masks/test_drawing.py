"""Overlays: what is drawn where, and that the input stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from samtrt.masks.drawing import colour_of, draw_box, draw_labels, draw_masks, draw_points


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((60, 80, 3), 128, dtype=np.uint8)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_mask_is_blended_inside_and_leaves_the_rest(grey: np.ndarray) -> None:
    out = draw_masks(grey, [square(10, 10, 30)], [(255, 0, 0)], alpha=0.5)
    assert np.array_equal(grey, np.full_like(grey, 128))
    np.testing.assert_allclose(out[25, 25].astype(int), (191, 64, 64), atol=1)
    np.testing.assert_allclose(out[10, 25].astype(int), (255, 0, 0), atol=20)  # the contour
    assert (out[50:] == 128).all()
    assert (out[:, 60:] == 128).all()


def test_masks_at_the_border_empty_masks_and_generators(grey: np.ndarray) -> None:
    masks = (m for m in [np.zeros((60, 80), dtype=bool), square(0, 0, 5), square(55, 75, 5)])
    out = draw_masks(grey, masks)
    assert (out[2, 2] != 128).any()
    assert (out[58, 78] != 128).any()
    assert (out[30, 40] == 128).all()


def test_colours_are_stable_and_distinct() -> None:
    colours = [colour_of(i) for i in range(200)]
    assert colours == [colour_of(i) for i in range(200)]
    assert len(set(colours)) == 200
    steps = np.abs(np.diff(np.array(colours), axis=0)).sum(axis=1)
    assert steps.min() > 60, "neighbours in the list look different"


def test_points_and_boxes(grey: np.ndarray) -> None:
    out = draw_points(grey, [[20, 20], [60, 40]], [1, 0])
    green, red = out[20, 20].astype(int), out[40, 60].astype(int)
    assert green[1] > green[0]
    assert red[0] > red[1]
    boxed = draw_box(grey, (10.2, 10, 50, 40), (0, 0, 255))
    assert (boxed[10, 30] == (0, 0, 255)).all()
    assert (boxed[25, 30] == 128).all()
    assert (grey == 128).all()


def test_every_value_is_blended_as_its_formula_says() -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mask = np.zeros((40, 50), dtype=bool)
    mask[5:35, 5:45] = True
    colour = (10, 200, 90)
    out = draw_masks(values, [mask], [colour], alpha=0.45)
    inside = (slice(10, 30), slice(10, 40))  # without the contour
    expected = values[inside].astype(np.float32) * np.float32(0.55)
    expected += np.asarray(colour, np.float32) * 0.45
    np.testing.assert_array_equal(out[inside], np.floor(expected + 0.5))


def test_labels_stay_inside_the_picture(grey: np.ndarray) -> None:
    out = draw_labels(grey, [((70, 2), "a long label"), ((0, 59), "b")])
    assert out.shape == grey.shape
    assert (out[:12] != 128).any()
    assert np.array_equal(grey, np.full_like(grey, 128))
    assert draw_labels(grey, [((5, 30), "in place")], in_place=True) is grey
    assert (grey != 128).any()
