"""Specks and holes: what is small goes, what is large or outside stays, whatever the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samtrt.masks.logits import upscale_masks
from samtrt.masks.specks import cell_area, specks_of, without_specks
from samtrt.preparation.frame import Frame

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


def regions(mask: np.ndarray) -> list[int]:
    """The areas of 8-connected regions, without OpenCV."""
    left, areas = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        waiting, area = [left.pop()], 0
        while waiting:
            y, x = waiting.pop()
            area += 1
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            waiting += near
        areas.append(area)
    return areas


@given(masks, st.integers(1, 40))
def test_nothing_small_is_left(mask: np.ndarray, least: int) -> None:
    changed = specks_of(mask, least)
    if changed is None:
        clean = mask
    else:
        clean = mask ^ changed
        assert changed.any()
    assert clean.any() == mask.any()
    islands = sorted(regions(clean))
    assert all(area >= least for area in islands[:-1])
    outside = regions(np.pad(~clean, 1, constant_values=True))
    assert sum(area < least for area in outside) <= 1  # the outside alone may be small
    assert specks_of(clean, least) is None


@given(masks)
def test_zero_keeps_all(mask: np.ndarray) -> None:
    assert specks_of(mask, 0) is None


def test_logits_change_sides_where_the_specks_are_and_nowhere_else() -> None:
    frame = Frame((60, 100), 128, 32)
    logits = np.full((32, 32), -3, dtype=np.float32)
    logits[4:14, 4:14] = 2
    logits[8, 8] = -1.5  # a hole
    logits[2, 20] = 0.05  # a speck
    logits[25:, 25:] = 9  # beyond the image: padding, which no one sees
    clean = without_specks(logits, frame, 0.0, 4)
    assert [tuple(place) for place in np.argwhere(clean != logits)] == [(2, 20), (8, 8)]
    assert clean[8, 8] == pytest.approx(1.5)
    assert clean[2, 20] == pytest.approx(-0.1)
    assert without_specks(clean, frame, 0.0, 4) is clean
    full = upscale_masks(clean[None], frame, 0.0)[0]
    assert regions(full) == [int(full.sum())]
    assert regions(np.pad(~full, 1, constant_values=True)) == [62 * 102 - int(full.sum())]


def test_a_mask_that_is_a_speck_stays() -> None:
    mask = np.zeros((9, 9), dtype=np.bool_)
    mask[4, 4] = mask[0, 0] = mask[0, 1] = True
    changed = specks_of(mask, 16)
    assert changed is not None
    assert np.argwhere(mask ^ changed).tolist() == [[0, 0], [0, 1]]


def test_cells_have_an_area_in_pixels() -> None:
    assert cell_area(Frame((1024, 1024), 1024, 256)) == pytest.approx(16)
    assert cell_area(Frame((2048, 1024), 1024, 256)) == pytest.approx(64)
