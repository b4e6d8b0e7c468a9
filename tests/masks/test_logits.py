"""Masks: upscaling against the official code, and their compact forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samtrt.choices import Resize
from samtrt.masks import logits as masks
from samtrt.preparation.frame import Frame
from samtrt.registry import get_spec
from support.oracle import official_sam

binary = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (256, 256), (300, 100), (37, 999)], ids=str)
def test_upscaling_is_the_official_one(size: tuple[int, int]) -> None:
    spec = get_spec("vit_t")
    logits = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    frame = Frame(size, spec.image_size, spec.mask_size)
    official, resized = official_sam(spec).postprocess_masks, frame.resized
    single = official(torch.from_numpy(logits), resized, size).numpy()
    double = official(torch.from_numpy(logits).double(), resized, size).numpy()
    got = masks.upscale_logits(logits, frame)
    assert got.shape == (2, 3, *size)
    # OpenCV places source pixels in double precision and PyTorch in the logits' own, so the
    # official float32 result is the one that is some 1e-5 off.
    assert np.abs(got - double).max() <= 2e-6
    assert np.abs(got - single).max() <= 1e-4
    assert np.array_equal(masks.upscale_masks(logits, frame, 0.0), got > 0)
    assert np.array_equal(masks.upscale_masks(logits, frame, 0.3), got > 0.3)


@given(binary)
def test_box_holds_the_mask_and_is_tight(mask: np.ndarray) -> None:
    x, y, width, height = masks.box_of_mask(mask)
    inside = mask[y : y + height, x : x + width]
    assert inside.sum() == mask.sum()
    if mask.any():
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
    else:
        assert (x, y, width, height) == (0, 0, 0, 0)


@given(binary, st.data())
def test_iou_is_that_of_sets(mask: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(hnp.arrays(np.bool_, mask.shape))
    a, b = (set(map(tuple, np.argwhere(m))) for m in (mask, other))
    expected = len(a & b) / len(a | b) if a | b else 1.0
    assert masks.mask_iou(mask, other) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(256, 256), (100, 200), (400, 100)], ids=str)
@pytest.mark.parametrize("resize", Resize)
def test_mask_prompt_keeps_the_mask(size: tuple[int, int], resize: Resize) -> None:
    mask = np.zeros(size, dtype=np.bool_)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    frame = Frame(size, 256, 64, resize)
    logits = masks.logits_from_mask(mask, frame)
    assert logits.shape == (1, 64, 64)
    assert logits.dtype == np.float32
    assert np.abs(logits).max() == masks.PROMPT_LOGIT
    back = masks.upscale_masks(logits, frame, 0.0)[0]
    assert masks.mask_iou(back, mask) > 0.9
    height, width = frame.resized
    assert (logits[0, -(-height // 4) :] == -10).all()
    assert (logits[0, :, -(-width // 4) :] == -10).all()
