"""Pixels for the encoder: the official ones, and those of other preparations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from samtrt.choices import Resize, ResizeFilter, ValueScale
from samtrt.preparation import host
from samtrt.preparation.frame import Frame
from samtrt.preparation.spec import OFFICIAL, Preparation
from samtrt.registry import get_spec
from support.oracle import official_sam, official_transform, random_image

SIZES = [(1, 1), (3, 7), (300, 200), (200, 300), (640, 1801)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_preprocessing_is_the_official_one(size: tuple[int, int]) -> None:
    spec = get_spec("vit_t")
    image = random_image(*size)
    resized = official_transform(spec.image_size).apply_image(image)
    tensor = torch.as_tensor(resized).permute(2, 0, 1)[None]
    expected = official_sam(spec).preprocess(tensor).numpy()
    got = host.preprocess(image, Frame(size, spec.image_size, spec.mask_size), OFFICIAL)
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("filter_", [ResizeFilter.BILINEAR, ResizeFilter.BICUBIC])
def test_an_image_squashed_and_brought_to_0_1(size: tuple[int, int], filter_: ResizeFilter) -> None:
    image = random_image(*size)
    preparation = Preparation(
        scale=ValueScale.UNIT,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        resize=Resize.STRETCH,
        filter=filter_,
    )
    got = host.preprocess(image, Frame(size, 64, 16, Resize.STRETCH), preparation)
    squashed = Image.fromarray(image).resize((64, 64), Image.Resampling[filter_.name])
    expected = np.asarray(squashed, dtype=np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    assert np.array_equal(got, expected)


def test_mean_and_deviation_in_0_1_are_those_in_0_255() -> None:
    image, frame = random_image(50, 90), Frame((50, 90), 64, 16)
    unit = Preparation(scale=ValueScale.UNIT, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    got, official = (host.preprocess(image, frame, p) for p in (unit, OFFICIAL))
    np.testing.assert_allclose(got, official, atol=2e-6)
    assert not got[:, :, frame.resized[0] :].any()  # padding is 0 after normalisation


def test_minmax_spans_0_to_1_over_all_channels_and_padding_stays_0() -> None:
    image = random_image(50, 90)
    image = 60 + image // 4
    preparation = Preparation(scale=ValueScale.MINMAX, mean=(0, 0, 0), std=(1, 1, 1))
    frame = Frame((50, 90), 64, 16)
    got = host.preprocess(image, frame, preparation)
    height = frame.resized[0]
    assert (got[:, :, :height].min(), got[:, :, :height].max()) == (0, 1)
    assert not got[:, :, height:].any()
    flat = host.preprocess(np.full_like(image, 77), frame, preparation)
    assert not flat.any()
