"""Parts of full-size masks equal the whole's, and the bounds on counts hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.amg_sieve import StabilityTest
from samtrt.masks import upscale_one
from samtrt.upscaling import Upscaler

sides = st.integers(1, 150)
seeds = st.integers(0, 10_000)


def smooth_logits(seed: int, size: int) -> np.ndarray:
    import cv2

    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), rng.uniform(0.3, 6))
    return (noise / noise.std() * rng.uniform(0.5, 5) + rng.uniform(-6, 3)).astype(np.float32)


@given(height=sides, width=sides, seed=seeds)
def test_a_region_is_the_official_resize_and_holds_all_that_exceeds(
    height: int, width: int, seed: int
) -> None:
    logits = smooth_logits(seed, 32)
    whole = upscale_one(logits, (height, width), 128)
    x, y, values = Upscaler((height, width), 128, 32).region_above(logits, -1.0)
    columns, rows = values.shape
    np.testing.assert_allclose(values.T, whole[y : y + rows, x : x + columns], atol=2e-5)
    whole[y : y + rows, x : x + columns] = -9
    assert whole.max() <= -1 + 2e-5


@given(height=sides, width=sides, seed=seeds, threshold=st.floats(-2, 2))
def test_bounds_enclose_the_count(height: int, width: int, seed: int, threshold: float) -> None:
    logits = smooth_logits(seed, 32)
    upscaler = Upscaler((height, width), 128, 32)
    whole = upscale_one(logits, (height, width), 128)
    mask = logits > threshold
    assert upscaler.at_least(mask) <= np.count_nonzero(whole > threshold - 2e-5)
    assert upscaler.at_most(mask) >= np.count_nonzero(whole > threshold + 2e-5)
    assert upscaler.at_most(np.ones_like(mask)) == height * width


@given(seed=seeds, least=st.floats(0.3, 0.99))
def test_a_mask_that_surely_fails_does_fail(seed: int, least: float) -> None:
    logits, upscaler = smooth_logits(seed, 32), Upscaler((90, 120), 128, 32)
    test = StabilityTest(threshold=0.0, offset=1.0, least=least)
    if test.surely_fails(logits, upscaler):
        assert not test.passes(test.score(upscaler.region_above(logits, test.lowest).values))


def test_nothing_above_the_threshold_is_an_empty_region() -> None:
    region = Upscaler((40, 60), 128, 32).region_above(np.full((32, 32), -5, np.float32), 0.0)
    assert region.values.size == 0
    assert np.isnan(StabilityTest(0.0, 1.0, 0.9).score(region.values))
    assert not StabilityTest(0.0, 1.0, 0.9).passes(float("nan"))
    assert StabilityTest(0.0, 1.0, 0.0).passes(float("nan"))


def test_logits_in_the_padding_do_not_count() -> None:
    logits = np.full((32, 32), -5, np.float32)
    logits[28:] = 5  # the image is twice as wide as high: rows 16 and on are padding
    assert Upscaler((60, 120), 128, 32).region_above(logits, 0.0).values.size == 0


@pytest.mark.parametrize("size", [(3000, 5000), (1, 999), (999, 1)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    logits = smooth_logits(1, 256)
    x, y, values = Upscaler(size, 1024, 256).region_above(logits, 0.5)
    part = upscale_one(logits, size, 1024)[y : y + values.shape[1], x : x + values.shape[0]]
    np.testing.assert_allclose(values.T, part, atol=5e-5)
