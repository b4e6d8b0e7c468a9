"""Replaying the filters on all masks leaves what the generator leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))  # its scripts

import auto_limits
from photo_set import Photo, PhotoObject
from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.manifest import Manifest
from samtrt.masks import rle
from samtrt.masks.logits import mask_iou
from samtrt.registry import MaskThresholds
from support.blobs import blob_predictor
from support.oracle import random_image


@pytest.mark.parametrize(
    ("scores", "stability", "offset"), [(0.88, 0.95, 1.0), (0.5, 0.9, 1.0), (0.5, 0.9, 3.0)]
)
def test_the_replay_keeps_what_the_generator_keeps(
    manifest: Manifest, scores: float, stability: float, offset: float
) -> None:
    predictor, image = blob_predictor(manifest), random_image(90, 120)
    found = auto_limits.candidates(predictor, Photo("noise", image, ()), 6, [1.0, offset])
    assert len(found.scores) == 6 * 6 * 3
    records = AutomaticMaskGenerator(
        predictor,
        points_per_side=6,
        pred_iou_thresh=scores,
        stability_score_thresh=stability,
        stability_score_offset=offset,
    ).generate(image)
    kept = found.kept(MaskThresholds(scores, stability), offset)
    assert 0 < len(kept) < len(found.scores)
    assert [found.scores[i] for i in kept] == [record["predicted_iou"] for record in records]


def test_the_fate_of_an_outline_that_is_one_of_the_masks(manifest: Manifest) -> None:
    predictor, image = blob_predictor(manifest), random_image(90, 120)
    found = auto_limits.candidates(predictor, Photo("noise", image, ()), 6, [1.0])
    mask = rle.decode(rle.of(found.masks[int(np.argmax(coco_mask.area(found.masks)))]))
    item = PhotoObject("largest", mask, np.zeros(4), np.zeros(4), np.zeros((3, 2)))
    own = MaskThresholds(0.5, 0.9)
    (row,) = auto_limits.fates(found, Photo("noise", image, (item,)), own)
    assert row["best"] == row["kept with true scores"] == 1
    kept = [rle.decode(rle.of(found.masks[i])) for i in found.kept(own)]
    assert row["kept"] == round(max(mask_iou(one, mask) for one in kept), 3)
