"""Objects found in photographs without a model."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def pseudo(scripts):
    return scripts("pseudo")["pseudo"]


@pytest.fixture(scope="module")
def picture():
    """A noisy green field with a red disc."""
    rng = np.random.default_rng(0)
    rgb = rng.normal((60, 120, 60), 8, (220, 300, 3))
    y, x = np.mgrid[:220, :300]
    disc = (y - 110) ** 2 + (x - 140) ** 2 < 50**2
    rgb[disc] += (130, -70, -20)
    return rgb.clip(0, 255).astype(np.uint8), disc


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def test_stable_cut_is_the_object(pseudo, picture):
    rgb, disc = picture
    cuts = pseudo.stable_cuts(rgb)
    assert max(iou(cut, disc) for cut in cuts) > 0.93


def test_regions_hold_the_object(pseudo, picture):
    rgb, disc = picture
    labels = pseudo.regions(rgb, 500)
    assert max(iou(labels == k, disc) for k in range(1, int(labels.max()) + 1)) > 0.85


def test_a_plain_picture_has_no_objects(pseudo):
    assert pseudo.stable_cuts(np.full((200, 200, 3), 90, np.uint8)) == []


def test_stack_keeps_small_cuts_above_large_ones_and_drops_what_would_be_hidden(pseudo):
    large, small, hiding = (np.zeros((40, 40), bool) for _ in range(3))
    large[2:38, 2:38], small[5:10, 5:10] = True, True
    hiding[4:34, 4:34] = True  # most of `large` would vanish under it
    labels = pseudo.stack([small, large, hiding], (40, 40))
    assert len(np.unique(labels)) == 3
    assert (labels == labels[6, 6]).sum() == small.sum()
