"""Grids and crops: the official numbers, and crops that cover the image."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samtrt.automatic.grid import crop_boxes, layered_point_grids, point_grid, touches_crop_edge
from samtrt.automatic.small_regions import remove_small_regions
from support.oracle import segment_anything_oracle

sizes = st.tuples(st.integers(8, 3000), st.integers(8, 3000))


@pytest.fixture(scope="module")
def official() -> Any:
    segment_anything_oracle()
    return importlib.import_module("segment_anything.utils.amg")


@given(size=sizes, layers=st.integers(0, 3), overlap=st.floats(0, 0.9))
def test_crops_are_the_official_ones(
    size: tuple[int, int], layers: int, overlap: float, official: Any
) -> None:
    boxes, indices = official.generate_crop_boxes(size, layers, overlap)
    ours = crop_boxes(size, layers, overlap)
    # The official code goes on to crops that begin outside of a tiny image, and fails on them.
    real = [(box, i) for box, i in zip(boxes, indices, strict=True) if box[0] < box[2]]
    real = [(box, i) for box, i in real if box[1] < box[3]]
    assert [(list(box), layer) for box, layer in ours] == real


@given(
    size=st.tuples(st.integers(8, 120), st.integers(8, 120)),
    layers=st.integers(0, 3),
    overlap=st.floats(0, 0.9),
)
def test_every_layer_covers_the_image(size: tuple[int, int], layers: int, overlap: float) -> None:
    covered = np.zeros((layers + 1, *size), dtype=bool)
    for (x1, y1, x2, y2), layer in crop_boxes(size, layers, overlap):
        assert 0 <= x1 < x2 <= size[1]
        assert 0 <= y1 < y2 <= size[0]
        covered[layer, y1:y2, x1:x2] = True
    assert covered.all()


def test_grids_are_the_official_ones(official: Any) -> None:
    ours = layered_point_grids(32, 2, 3)
    for mine, other in zip(ours, official.build_all_layer_point_grids(32, 2, 3), strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(point_grid(1), [[0.5, 0.5]])


@given(size=sizes, numbers=st.lists(st.floats(0, 1), min_size=4, max_size=4), at=st.integers(0, 20))
def test_edges_are_the_official_ones(
    size: tuple[int, int], numbers: list[float], at: int, official: Any
) -> None:
    crops = crop_boxes(size, 2, 0.3)
    crop = crops[at % len(crops)][0]
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    box = [int(n * side) for n, side in zip(numbers, (width, height) * 2, strict=True)]
    whole = [0, 0, size[1], size[0]]
    expected = official.is_box_near_crop_edge(torch.tensor([box]), list(crop), whole)
    moved = (box[0] + crop[0], box[1] + crop[1], box[2] + crop[0], box[3] + crop[1])
    assert touches_crop_edge(moved, crop, size) == bool(expected)


@given(
    seed=st.integers(0, 10_000), area=st.integers(1, 60), kind=st.sampled_from(["holes", "islands"])
)
def test_small_regions_are_the_official_ones(
    seed: int, area: int, kind: Any, official: Any
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((6, 7)) < rng.random(), np.ones((3, 3))).astype(bool)
    ours = remove_small_regions(mask, area, kind)
    theirs, changed = official.remove_small_regions(mask, area, kind)
    np.testing.assert_array_equal(ours, theirs)
    assert (ours is not mask) == changed
