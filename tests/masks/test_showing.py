"""Results as notebooks show them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from samtrt.errors import ImageError
from samtrt.masks import rle
from samtrt.masks.prediction import Prediction
from samtrt.masks.record import MaskRecord, MaskRecords
from samtrt.masks.showing import GREY, LONGEST

SCORES = np.array([0.2, 0.9, 0.5], dtype=np.float32)


def three(size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Left half, a square, and nothing."""
    masks = np.zeros((3, *size), dtype=np.bool_)
    masks[0, :, : size[1] // 2] = True
    masks[1, 10:20, 10:20] = True
    return masks


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_prediction_shows_its_best_mask() -> None:
    found = Prediction(three(), SCORES, np.zeros((3, 4, 4), np.float32))
    np.testing.assert_array_equal(found.best, three()[1])
    shown = opened(found._repr_png_())
    assert shown.shape == (40, 60, 3)
    assert (shown[12:18, 12:18] != GREY).any(axis=2).all()
    assert (shown[30:, 30:] == GREY).all()
    image = np.full((40, 60, 3), 200, dtype=np.uint8)
    drawn = np.asarray(found.plot(image))
    assert (drawn[30:, 30:] == 200).all()
    assert (drawn[15, 15] != 200).any()
    assert (image == 200).all(), "the image itself stays"
    masks, scores, logits = found  # as the official predictor's answer
    assert (masks.shape, scores.shape, logits.shape) == ((3, 40, 60), (3,), (3, 4, 4))


def test_logits_and_batches_show_one_mask_a_prompt() -> None:
    logits = np.where(three(), 3.0, -2.0).astype(np.float32)
    batch = Prediction(np.stack([logits, logits[::-1]]), np.stack([SCORES, SCORES]), logits)
    assert batch.best.shape == (2, 40, 60)
    np.testing.assert_array_equal(batch.best[0], three()[1])
    assert opened(batch._repr_png_()).shape == (40, 60, 3)


def test_an_image_of_another_size_is_refused() -> None:
    found = Prediction(three(), SCORES, np.zeros((3, 4, 4), np.float32))
    for wrong in (np.zeros((60, 40, 3), np.uint8), np.zeros((40, 60, 3), np.float32)):
        with pytest.raises(ImageError, match="60 x 40 pixels"):
            found.plot(wrong)


def record(mask: np.ndarray, encode: bool) -> MaskRecord:
    return MaskRecord(
        segmentation=rle.compress(rle.encode(mask)) if encode else mask,
        area=int(mask.sum()),
        bbox=[0, 0, 1, 1],
        predicted_iou=0.9,
        point_coords=[[0.0, 0.0]],
        stability_score=0.9,
        crop_box=[0, 0, 1, 1],
    )


@pytest.mark.parametrize("encode", [False, True])
def test_automatic_masks_show_all_small_ones_on_top(encode: bool) -> None:
    small, large = three()[1], three()[0]
    found = MaskRecords([record(small, encode), record(large, encode)])
    assert found == [record(small, encode), record(large, encode)]
    shown = opened(found._repr_png_())
    assert (shown[30:, 40:] == GREY).all()
    assert (shown[15, 15] != shown[30, 5]).any(), "the small mask lies on the large one"
    assert opened(MaskRecords()._repr_png_()).shape == (1, 1, 3)


def test_a_large_picture_is_shown_small_enough() -> None:
    masks = three((300, 3 * LONGEST))
    found = Prediction(masks, SCORES, np.zeros((3, 4, 4), np.float32))
    assert opened(found._repr_png_()).shape == (100, LONGEST, 3)
