"""Where an image lies in the model's square: against the official code, and round trips."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samtrt.choices import Resize
from samtrt.preparation.frame import Frame
from support.oracle import official_transform

sizes = st.tuples(st.integers(1, 6000), st.integers(1, 6000))
points = st.lists(st.tuples(st.floats(0, 6000), st.floats(0, 6000)), min_size=1)


@given(sizes)
def test_the_resized_size_is_the_official_one(size: tuple[int, int]) -> None:
    expected = official_transform(1024).get_preprocess_shape(*size, 1024)
    got = Frame(size, 1024, 256).resized
    assert got == tuple(max(side, 1) for side in expected)
    assert max(got) == 1024


@given(sizes, points)
def test_coordinates_are_the_official_ones(
    size: tuple[int, int], coords: list[tuple[float, float]]
) -> None:
    official = official_transform(1024)
    if 0 not in official.get_preprocess_shape(*size, 1024):
        expected = official.apply_coords(np.array(coords), size)
        assert np.allclose(Frame(size, 1024, 256).to_model(np.array(coords)), expected)


@given(sizes, points, st.sampled_from(Resize))
def test_coordinates_survive_the_round_trip(
    size: tuple[int, int], coords: list[tuple[float, float]], resize: Resize
) -> None:
    frame = Frame(size, 1024, 256, resize)
    assert np.allclose(frame.to_image(frame.to_model(np.array(coords))), coords)


@given(sizes)
def test_a_stretched_image_fills_the_square(size: tuple[int, int]) -> None:
    frame = Frame(size, 1024, 256, Resize.STRETCH)
    assert frame.resized == (1024, 1024)
    assert np.allclose(frame.to_model(np.array([[size[1], size[0]]])), 1024)
