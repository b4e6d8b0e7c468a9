"""Resizing, normalising and coordinates: against the official code, and round trips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samtrt.preparation import host
from samtrt.registry import get_spec
from support.oracle import official_sam, random_image, segment_anything_oracle

sizes = st.tuples(st.integers(1, 6000), st.integers(1, 6000))


def official_transform(image_size: int) -> Any:
    segment_anything_oracle()
    from segment_anything.utils.transforms import ResizeLongestSide

    return ResizeLongestSide(image_size)


@given(sizes)
def test_resized_size_is_the_official_one(size: tuple[int, int]) -> None:
    expected = official_transform(1024).get_preprocess_shape(*size, 1024)
    got = host.resized_size(size, 1024)
    assert got == tuple(max(side, 1) for side in expected)
    assert max(got) == 1024


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (300, 200), (200, 300), (640, 1801)], ids=str)
def test_preprocessing_is_the_official_one(size: tuple[int, int]) -> None:
    spec = get_spec("vit_t")
    image = random_image(*size)
    resized = official_transform(spec.image_size).apply_image(image)
    tensor = torch.as_tensor(resized).permute(2, 0, 1)[None]
    expected = official_sam(spec).preprocess(tensor).numpy()
    got = host.preprocess(image, spec.image_size)
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)


@given(sizes, st.lists(st.tuples(st.floats(0, 6000), st.floats(0, 6000)), min_size=1))
def test_coordinates_survive_the_round_trip(
    size: tuple[int, int], points: list[tuple[float, float]]
) -> None:
    coords = np.array(points)
    there = host.to_model_frame(coords, size, 1024)
    assert np.allclose(there, official_transform(1024).apply_coords(coords, size)) or 0 in (
        official_transform(1024).get_preprocess_shape(*size, 1024)
    )
    assert np.allclose(host.to_image_frame(there, size, 1024), coords)
