"""SAM-HQ against `segment-anything-hq==0.3`, same weights: from an image to masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from samtrt.backends.pytorch import manifest_of, open_checkpoint
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import MaskChoice, Stage
from samtrt.models import build_sam, seed_weights
from samtrt.models.graphs import EncoderGraph
from samtrt.predictor import Predictor
from samtrt.registry import get_spec
from samtrt.types import Prediction
from support.oracle import official_sam, oracle_package

SPEC = replace(get_spec("vit_t"), hq=True)


@pytest.fixture(scope="module")
def official() -> torch.nn.Module:
    ours, theirs = build_sam(SPEC), official_sam(SPEC)
    seed_weights(ours)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs


@pytest.fixture(scope="module")
def predictor(hq_checkpoint: Path) -> Predictor:
    checkpoint = load_checkpoint(hq_checkpoint)
    manifest = manifest_of(checkpoint)
    stages = open_checkpoint(checkpoint, manifest, "cpu")
    return Predictor(stages[Stage.ENCODER], stages[Stage.DECODER], manifest)


PROMPTS = {
    "point": {"point_coords": np.array([[90.0, 60.0]]), "point_labels": np.array([1])},
    "points": {
        "point_coords": np.array([[90.0, 60.0], [20.0, 30.0]]),
        "point_labels": np.array([1, 0]),
    },
    "box": {"box": np.array([20.0, 10.0, 150.0, 100.0])},
}


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_predictor_gives_the_official_masks(
    predictor: Predictor,
    official: torch.nn.Module,
    picture: np.ndarray,
    prompt: str,
    multimask: bool,
) -> None:
    theirs = oracle_package("segment_anything_hq").SamPredictor(official)
    theirs.set_image(picture)
    predictor.set_image(picture)
    expected = Prediction(*theirs.predict(**PROMPTS[prompt], multimask_output=multimask))
    got = predictor.predict(**PROMPTS[prompt], multimask_output=multimask)
    assert got.masks.shape == expected.masks.shape == (1, 120, 200)
    assert np.abs(got.low_res_logits - expected.low_res_logits).max() <= 1e-4
    assert np.abs(got.iou_predictions - expected.iou_predictions).max() <= 1e-4
    assert 0.02 < expected.masks.mean() < 0.98
    assert (got.masks != expected.masks).mean() < 1e-3


def test_features_are_made_once_an_image(official: torch.nn.Module) -> None:
    ours = build_sam(SPEC)
    seed_weights(ours)
    images = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        embedding, features = EncoderGraph(ours)(images)
        wanted, early = official.image_encoder(images)
        decoder = official.mask_decoder
        fine = decoder.embedding_encoder(wanted) + decoder.compress_vit_feat(
            early[0].permute(0, 3, 1, 2)
        )
    assert (embedding - wanted).abs().max() <= 1e-4
    assert (features - fine).abs().max() <= 1e-4


def test_spec_says_what_flows_and_which_masks_answer() -> None:
    assert [(one.name, one.shape) for one in SPEC.maps] == [
        ("image_embeddings", (256, 16, 16)),
        ("hq_features", (32, 64, 64)),
    ]
    assert SPEC.mask_choice is MaskChoice.BEST
