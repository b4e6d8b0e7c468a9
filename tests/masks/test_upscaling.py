"""Parts of full-size masks equal the whole's, and the bounds on counts hold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.automatic.candidates import StabilityTest
from samtrt.choices import Resize
from samtrt.masks import upscaling
from samtrt.masks.logits import box_of_mask
from samtrt.masks.upscaling import Part, Region, Upscaler, upscale_one
from samtrt.preparation.frame import Frame

sides = st.integers(1, 150)
frames = st.builds(
    Frame, st.tuples(sides, sides), st.just(128), st.just(32), st.sampled_from(Resize)
)
seeds = st.integers(0, 10_000)


def smooth_logits(seed: int, size: int) -> np.ndarray:
    import cv2

    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), rng.uniform(0.3, 6))
    return (noise / noise.std() * rng.uniform(0.5, 5) + rng.uniform(-6, 3)).astype(np.float32)


def part_above(upscaler: Upscaler, logits: np.ndarray, threshold: float) -> Part:
    return upscaler.parts(logits[None], upscaler.above(logits[None], threshold))[0]


def formed(upscaler: Upscaler, part: Part) -> Region:
    """Put a part's strips together."""
    strips = list(upscaler.strips(part))
    values = [strip.values for strip in strips] or [np.empty((0, 0), np.float32)]
    for one, following in pairwise(strips):
        assert (following.x, following.y) == (one.x, one.y + one.values.shape[1])
    return Region(part.xs[0], part.ys[0], np.concatenate(values, axis=1))


def region_above(upscaler: Upscaler, logits: np.ndarray, threshold: float) -> Region:
    return formed(upscaler, part_above(upscaler, logits, threshold))


@given(frame=frames, seed=seeds)
def test_a_region_is_the_official_resize_and_holds_all_that_exceeds(
    frame: Frame, seed: int
) -> None:
    logits = smooth_logits(seed, 32)
    whole = upscale_one(logits, frame)
    x, y, values = region_above(Upscaler(frame), logits, -1.0)
    columns, rows = values.shape
    np.testing.assert_allclose(values.T, whole[y : y + rows, x : x + columns], atol=2e-5)
    whole[y : y + rows, x : x + columns] = -9
    assert whole.max() <= -1 + 2e-5


@given(frame=frames, seed=seeds, threshold=st.floats(-2, 2))
def test_bounds_enclose_the_count(frame: Frame, seed: int, threshold: float) -> None:
    logits = smooth_logits(seed, 32)
    upscaler = Upscaler(frame)
    whole = upscale_one(logits, frame)
    mask = upscaler.above(logits[None], threshold)[0]
    part = part_above(upscaler, logits, threshold)
    for cells in ((mask,), (part.cells > threshold, part.top, part.left)):
        assert upscaler.at_least(*cells) <= np.count_nonzero(whole > threshold - 2e-5)
        assert upscaler.at_most(*cells) >= np.count_nonzero(whole > threshold + 2e-5)
    assert upscaler.at_most(np.ones_like(mask)) == frame.original[0] * frame.original[1]


@given(frame=frames, seed=seeds, threshold=st.floats(-2, 2))
def test_boxes_lie_between_their_bounds(frame: Frame, seed: int, threshold: float) -> None:
    logits = np.stack([smooth_logits(seed + i, 32) for i in range(3)])
    upscaler = Upscaler(frame)
    outer, inner = upscaler.bounds(upscaler.above(logits, threshold))
    for plane, around, within in zip(logits, outer, inner, strict=True):
        whole = upscale_one(plane, frame)
        for mask, most in ((whole > threshold - 2e-5, False), (whole > threshold + 2e-5, True)):
            x, y, w, h = box_of_mask(mask)
            box = np.array([x, y, x + w - 1, y + h - 1])
            if most and mask.any():  # all that surely exceeds it is within the outer box
                assert (around[:2] <= box[:2]).all()
                assert (around[2:] >= box[2:]).all()
            if not most and (within[2:] >= within[:2]).all():
                assert (within[:2] >= box[:2]).all()
                assert (within[2:] <= box[2:]).all()


def test_bounds_of_a_plain_square_are_a_cell_wide() -> None:
    logits = np.full((1, 32, 32), -5, np.float32)
    logits[0, 8:16, 4:20] = 5  # 4 pixels a cell: 16..80, 32..64
    upscaler = Upscaler(Frame((128, 128), 128, 32))
    outer, inner = upscaler.bounds(upscaler.above(logits, 0.0))
    box = region_box(upscaler, logits[0])
    assert np.abs(outer[0] - box).max() <= 4
    assert np.abs(inner[0] - box).max() <= 4
    empty = upscaler.bounds(upscaler.above(np.full_like(logits, -5), 0.0))
    assert (empty.inner[0, 2:] < empty.inner[0, :2]).all()


def region_box(upscaler: Upscaler, logits: np.ndarray) -> tuple[int, int, int, int]:
    x, y, values = region_above(upscaler, logits, 0.0)
    left, top, width, height = box_of_mask(values.T > 0)
    return x + left, y + top, x + left + width - 1, y + top + height - 1


@given(seed=seeds, least=st.floats(0.3, 0.99))
def test_a_mask_that_surely_fails_does_fail(seed: int, least: float) -> None:
    logits, upscaler = smooth_logits(seed, 32), Upscaler(Frame((90, 120), 128, 32))
    test = StabilityTest(threshold=0.0, offset=1.0, least=least)
    part = part_above(upscaler, logits, test.lowest)
    if test.surely_fails(part, upscaler):
        assert not test.passes(test.score(test.counts(formed(upscaler, part).values)))


def test_nothing_above_the_threshold_is_an_empty_region() -> None:
    region = region_above(
        Upscaler(Frame((40, 60), 128, 32)), np.full((32, 32), -5, np.float32), 0.0
    )
    assert region.values.size == 0
    test = StabilityTest(0.0, 1.0, 0.9)
    assert np.isnan(test.score(test.counts(region.values)))
    assert not StabilityTest(0.0, 1.0, 0.9).passes(float("nan"))
    assert StabilityTest(0.0, 1.0, 0.0).passes(float("nan"))


def test_logits_in_the_padding_do_not_count() -> None:
    logits = np.full((32, 32), -5, np.float32)
    logits[28:] = 5  # the image is twice as wide as high: rows 16 and on are padding
    assert region_above(Upscaler(Frame((60, 120), 128, 32)), logits, 0.0).values.size == 0


@pytest.mark.parametrize("size", [(3000, 5000), (1, 999), (999, 1)])
def test_extreme_sizes(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaling, "_STRIP", 999_000)
    logits = smooth_logits(1, 256)
    x, y, values = region_above(Upscaler(Frame(size, 1024, 256)), logits, 0.5)
    part = upscale_one(logits, Frame(size, 1024, 256))[
        y : y + values.shape[1], x : x + values.shape[0]
    ]
    np.testing.assert_allclose(values.T, part, atol=5e-5)
