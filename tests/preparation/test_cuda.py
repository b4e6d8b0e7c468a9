"""Preparation on a GPU, in the emulator and on a real one, against Pillow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.choices import Resize, ResizeFilter, ValueScale
from samtrt.cuda.memory import Memory
from samtrt.preparation import cuda, host
from samtrt.preparation.frame import Frame
from samtrt.preparation.spec import OFFICIAL, SAM2, Preparation
from support.on_device import device_memory
from support.oracle import random_image
from support.places import PLACES

SIZES = [(60, 90), (120, 180), (37, 91), (300, 20), (77, 200), (1, 1), (200, 77), (1, 400)]


@pytest.fixture(params=PLACES)
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    with device_memory(monkeypatch, request.param) as (memory, _):
        yield memory


@pytest.mark.parametrize("resize", Resize)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_are_those_of_the_host(
    memory: Memory, size: tuple[int, int], resize: Resize
) -> None:
    frame, image = Frame(size, 64, 16, resize), random_image(*size)
    for kind in ResizeFilter:
        preparation = OFFICIAL.model_copy(update={"resize": resize, "filter": kind})
        got = cuda.preprocess(image, frame, preparation, memory).numpy()
        np.testing.assert_array_equal(got, host.preprocess(image, frame, preparation), str(kind))


def test_order_is_that_of_the_pillow_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 13, rows were always last."""
    tall, wide = Frame((300, 20), 64, 16), Frame((77, 200), 64, 16)
    monkeypatch.setattr(cuda, "_PILLOW", 13)
    assert [cuda._order(frame) for frame in (tall, wide)] == [(0, 1), (1, 0)]
    monkeypatch.setattr(cuda, "_PILLOW", 12)
    assert [cuda._order(frame) for frame in (tall, wide)] == [(1, 0), (1, 0)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_unrounded_values_are_those_of_the_host(memory: Memory, size: tuple[int, int]) -> None:
    frame, image = Frame(size, 64, 16, Resize.STRETCH), random_image(*size)
    for kind in ResizeFilter:
        preparation = SAM2.model_copy(update={"filter": kind})
        got = cuda.preprocess(image, frame, preparation, memory, True).numpy()
        wanted = host.preprocess(np.ascontiguousarray(image[..., ::-1]), frame, preparation)
        np.testing.assert_allclose(got, wanted, atol=1e-6, err_msg=str(kind))


@pytest.mark.parametrize("scale", ValueScale)
def test_scales(memory: Memory, scale: ValueScale) -> None:
    frame = Frame((50, 80), 64, 16)
    ones = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 2.0)}
    preparation = OFFICIAL if scale is ValueScale.BYTE else Preparation(scale=scale, **ones)
    for image in (random_image(50, 80) // 3 + 20, np.full((50, 80, 3), 7, np.uint8)):
        got = cuda.preprocess(image, frame, preparation, memory).numpy()
        np.testing.assert_array_equal(got, host.preprocess(image, frame, preparation))


def test_reversed_channels(memory: Memory) -> None:
    frame, image = Frame((50, 80), 64, 16), random_image(50, 80)
    got = cuda.preprocess(image, frame, OFFICIAL, memory, reversed_channels=True).numpy()
    wanted = host.preprocess(np.ascontiguousarray(image[..., ::-1]), frame, OFFICIAL)
    np.testing.assert_array_equal(got, wanted)
