"""RLE round trips on any mask, against pycocotools and the official encoder."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from samtrt.masks import rle
from samtrt.masks.logits import box_of_mask
from support.oracle import segment_anything_oracle

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@pytest.fixture(scope="module")
def official() -> Any:
    segment_anything_oracle()
    return importlib.import_module("segment_anything.utils.amg")


def check(mask: np.ndarray, official: Any) -> None:
    encoded = rle.encode(mask)
    assert encoded == official.mask_to_rle_pytorch(torch.from_numpy(mask.copy())[None])[0]
    np.testing.assert_array_equal(rle.decode(encoded), mask)
    compressed = rle.compress(encoded)
    np.testing.assert_array_equal(rle.decode(compressed), mask)
    theirs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert compressed == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert rle.area(encoded) == np.count_nonzero(mask)


@given(mask=masks)
def test_round_trip_on_random_masks(mask: np.ndarray, official: Any) -> None:
    check(mask, official)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 7)])
@pytest.mark.parametrize("value", [False, True])
def test_round_trip_on_degenerate_masks(shape: tuple[int, int], value: bool, official: Any) -> None:
    check(np.full(shape, value), official)
    corner = np.full(shape, value)
    corner[-1, -1] = not value
    check(corner, official)


@given(mask=masks, x=st.integers(0, 5), y=st.integers(0, 5), right=st.integers(0, 5))
def test_a_rectangle_of_a_mask_is_encoded_in_its_place(
    mask: np.ndarray, x: int, y: int, right: int
) -> None:
    height, width = mask.shape
    whole = np.zeros((height + y, width + x + right), dtype=bool)
    whole[y:, x : x + width] = mask
    runs = rle.find_runs(np.ascontiguousarray(mask.T), height + y, x, y)
    assert runs.to_rle(whole.shape) == rle.encode(whole)
    assert runs.area == np.count_nonzero(whole)
    left, top, w, h = box_of_mask(whole)
    if w:
        assert runs.box == (left, top, left + w - 1, top + h - 1)
    else:
        assert runs.box == (0, 0, 0, 0)


@given(mask=masks)
def test_boxes_are_the_official_ones(mask: np.ndarray, official: Any) -> None:
    box = official.batched_mask_to_box(torch.from_numpy(mask.copy())[None])[0].tolist()
    assert list(rle.find_runs(np.ascontiguousarray(mask.T), mask.shape[0]).box) == box
