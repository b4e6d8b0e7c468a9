"""RLE round trips on any mask, against pycocotools and the official encoder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))  # its scripts

from attack_payloads import compressed
from samtrt.errors import MaskError
from samtrt.masks import rle
from samtrt.masks.counts import read_counts
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
    packed = rle.compress(encoded)
    np.testing.assert_array_equal(rle.decode(packed), mask)
    theirs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert packed == {"size": theirs["size"], "counts": theirs["counts"].decode()}
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


def as_pycocotools(size: tuple[int, int], counts: str) -> np.ndarray:
    return coco.decode({"size": list(size), "counts": counts}).astype(bool)


@given(mask=masks, data=st.data())
def test_damaged_strings_are_refused_or_read_as_pycocotools_does(
    mask: np.ndarray, data: st.DataObject
) -> None:
    counts = rle.compress(rle.encode(mask))["counts"]
    start = data.draw(st.integers(0, len(counts)))
    stop = data.draw(st.integers(start, min(len(counts), start + 3)))
    noise = data.draw(st.text(st.characters(min_codepoint=46, max_codepoint=113), max_size=9))
    spoilt = counts[:start] + noise + counts[stop:]
    try:
        got = rle.decode({"size": list(mask.shape), "counts": spoilt})
    except MaskError:
        return
    # What adds up to the size is safe to give to pycocotools, which checks nothing.
    np.testing.assert_array_equal(got, as_pycocotools(mask.shape, spoilt))


@given(st.lists(st.integers(0, 2**31)))
def test_numbers_of_every_length_are_read(runs: list[int]) -> None:
    assert read_counts(compressed(runs)).tolist() == runs


WRAPS = [
    [2**48] * 65_536,  # sums to 2^64, which is 0
    [2**33] * (2**16),
    [2**63 - 1, 2**63 - 1, 2],
    [-1, 2],
    [0, -5, 5, 1],
    [2**64, 1],
]


@pytest.mark.parametrize("runs", WRAPS, ids=lambda runs: f"{len(runs)}x{runs[0]}")
def test_no_sum_wraps_around_to_the_size(runs: list[int]) -> None:
    """Runs that add up modulo 2^64 made `np.repeat` write past its buffer: the process died."""
    for size in ([1, 1], [0, 0]):
        for counts in (runs, [*runs, 1], [1, *runs], compressed(runs), compressed([*runs, 1])):
            with pytest.raises(MaskError):
                rle.decode({"size": size, "counts": counts})


BAD = [
    ({"size": [1], "counts": "1"}, "height and width"),
    ({"size": "11", "counts": "1"}, "integers"),
    ({"size": [-1, -1], "counts": "1"}, "integers"),
    ({"size": [True, 1], "counts": "1"}, "integers"),
    ({"size": [1.0, 1], "counts": "1"}, "integers"),
    ({"size": [10**6, 10**6], "counts": [10**12]}, "more than the limit"),
    ({"size": [1, 1], "counts": [1.0]}, "list of integers"),
    ({"size": [1, 1], "counts": [True]}, "list of integers"),
    ({"size": [1, 1], "counts": [[1]]}, "list of integers"),
    ({"size": [1, 1], "counts": [[1], 1]}, "list of integers"),
    ({"size": [1, 1], "counts": None}, "list of integers"),
    ({"size": [1, 1]}, "list of integers"),
    ({"size": [1, 1], "counts": ["1"]}, "list of integers"),
    ({"size": [1, 1], "counts": []}, "add up"),
    ({"size": [1, 1], "counts": ""}, "add up"),
    ({"size": [1, 1], "counts": "P" * 400_000}, "middle of a number"),
    ({"size": [1, 1], "counts": "P" * 8 + "0"}, "not compressed"),
    ({"size": [1, 1], "counts": "1\u00e9"}, "not compressed"),
    ({"size": [1, 1], "counts": b"1\xff0"}, "not compressed"),
]


@pytest.mark.parametrize(("broken", "words"), BAD)
def test_what_is_not_rle_is_refused(broken: Any, words: str) -> None:
    with pytest.raises(MaskError, match=words):
        rle.decode(broken)


def test_a_limit_is_kept_before_anything_is_allocated() -> None:
    with pytest.raises(MaskError, match="limit of 99"):
        rle.decode({"size": [10, 10], "counts": [100]}, max_pixels=99)


@given(mask=masks, packed=st.booleans())
def test_a_mask_is_cut_to_its_box(mask: np.ndarray, packed: bool) -> None:
    encoded = rle.compress(rle.encode(mask)) if packed else rle.encode(mask)
    patch = rle.cut(encoded)
    whole = np.zeros_like(mask)
    height, width = patch.mask.shape
    whole[patch.y : patch.y + height, patch.x : patch.x + width] = patch.mask
    np.testing.assert_array_equal(whole, mask)
    assert (patch.x, patch.y, width, height) == box_of_mask(mask)
    np.testing.assert_array_equal(rle.patch_of(mask).mask, patch.mask)
    found = rle.find_runs(np.ascontiguousarray(mask.T), len(mask))
    for one, other in zip(rle.runs_of(encoded), found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_empty_runs_between_do_not_matter() -> None:
    odd: rle.Rle = {"size": [2, 4], "counts": [0, 2, 0, 1, 2, 0, 1, 2]}
    assert rle.runs_of(odd).starts.tolist() == [0, 6]
    assert rle.runs_of(odd).ends.tolist() == [3, 8]
    np.testing.assert_array_equal(rle.cut(odd).mask, rle.decode(odd))
