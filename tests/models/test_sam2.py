"""SAM 2 against `sam2==1.1.0`, same seeded weights: from an image to masks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samtrt.backends.pytorch import manifest_of, open_checkpoint
from samtrt.checkpoints.hugging_face import check_config
from samtrt.checkpoints.layouts import SAM2
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import Generation, MaskChoice, Stage
from samtrt.errors import CheckpointError
from samtrt.masks.prediction import Prediction
from samtrt.models import build_sam, seed_weights
from samtrt.predictor import Predictor
from samtrt.preparation import host
from samtrt.registry import MODELS, HieraSpec, get_spec
from support.oracle import official_sam2, official_sam2_predictor, random_image, sam2_package

TINY = get_spec("sam2.1_hiera_t")
assert isinstance(TINY, HieraSpec)
PUBLISHED = [name for name, spec in MODELS.items() if isinstance(spec, HieraSpec) and spec.download]

POINT = {"point_coords": np.array([[90.0, 60.0]]), "point_labels": np.array([1])}
PROMPTS: dict[str, dict[str, Any]] = {
    "point": POINT,
    "points": {
        "point_coords": np.array([[90.0, 60.0], [20.0, 30.0], [150.0, 90.0]]),
        "point_labels": np.array([1, 0, 1]),
    },
    "box": {"box": np.array([20.0, 10.0, 150.0, 100.0])},
    "box and point": {"box": np.array([20.0, 10.0, 150.0, 100.0]), **POINT},
}


@pytest.fixture(scope="module")
def official(sam2_checkpoint: Path) -> Any:
    theirs = official_sam2(TINY)
    state = torch.load(sam2_checkpoint, weights_only=True)["model"]
    theirs.load_state_dict(state, strict=True)
    return theirs


@pytest.fixture(scope="module")
def predictor(sam2_checkpoint: Path) -> Predictor:
    checkpoint = load_checkpoint(sam2_checkpoint)
    assert checkpoint.notices == ()
    manifest = manifest_of(checkpoint)
    stages = open_checkpoint(checkpoint, manifest, "cpu")
    return Predictor(stages[Stage.ENCODER], stages[Stage.DECODER], manifest)


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max()) <= 1e-4 * max(float(np.abs(theirs).max()), 1.0)


def assert_same(got: Prediction, expected: Prediction) -> None:
    assert close(got.low_res_logits, expected.low_res_logits)
    assert close(got.iou_predictions, expected.iou_predictions)
    assert got.masks.shape == expected.masks.shape
    assert 0.02 < expected.masks.mean() < 0.98
    assert (got.masks != expected.masks).mean() < 1e-3


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("size", [(120, 200), (100, 60)], ids=str)
def test_predictor_gives_the_official_masks(
    predictor: Predictor, official: Any, size: tuple[int, int], prompt: str, multimask: bool
) -> None:
    picture = random_image(*size)
    arguments = {
        name: value * 0.3 if size[1] < 200 and name != "point_labels" else value
        for name, value in PROMPTS[prompt].items()
    }
    theirs = official_sam2_predictor(official)
    theirs.set_image(picture)
    predictor.set_image(picture)
    expected = Prediction(*theirs.predict(**arguments, multimask_output=multimask))
    got = predictor.predict(**arguments, multimask_output=multimask)
    assert_same(got, expected)
    # And from its logits on, as when a user corrects a mask.
    best = int(expected.iou_predictions.argmax())
    again = {**POINT, "mask_input": expected.low_res_logits[best][None], "multimask_output": False}
    again["point_coords"] = again["point_coords"] * (0.3 if size[1] < 200 else 1)
    assert_same(predictor.predict(**again), Prediction(*theirs.predict(**again)))


def test_embeddings_are_the_official_ones(
    predictor: Predictor, official: Any, picture: np.ndarray
) -> None:
    theirs = official_sam2_predictor(official)
    theirs.set_image(picture)
    maps = predictor.encode(picture).maps
    features = theirs._features
    assert close(maps["image_embeddings"], features["image_embed"].numpy())
    for number, one in enumerate(features["high_res_feats"]):
        assert close(maps[f"high_res_features_s{number}"], one.numpy())


@pytest.mark.parametrize("size", [(120, 200), (64, 64), (300, 128), (700, 500)], ids=str)
def test_images_are_prepared_as_officially(predictor: Predictor, size: tuple[int, int]) -> None:
    picture = random_image(*size)
    manifest = predictor.manifest
    got = host.preprocess(picture, manifest.frame(size), manifest.preparation)
    transforms = sam2_package().sam2_image_predictor.SAM2Transforms(TINY.image_size, 0.0)
    np.testing.assert_allclose(got[0], transforms(picture).numpy(), atol=2e-5)


def test_an_unstable_single_mask_is_replaced_by_the_best(
    predictor: Predictor, official: Any, picture: np.ndarray
) -> None:
    """Over many prompts, some fall back and some do not; each as officially."""
    theirs = official_sam2_predictor(official)
    theirs.set_image(picture)
    predictor.set_image(picture)
    points = np.random.default_rng(0).uniform(5, 115, (24, 1, 2))
    raw, scores = predictor.decode(
        predictor.embedding,
        _prompts(predictor, points),
    )
    got = predictor.predict_batch(points, np.ones((24, 1)), multimask_output=False)
    fell_back = 0
    for number, point in enumerate(points):
        expected = theirs.predict(point, np.ones(1), multimask_output=False)
        assert close(got.iou_predictions[number], expected[1])
        fell_back += bool(abs(expected[1][0] - scores[number, 0]) > 1e-4)
    assert raw.shape[:2] == (24, 4)
    assert fell_back > 0


def _prompts(predictor: Predictor, points: np.ndarray) -> Any:
    from samtrt.preparation.prompts import build_prompts

    return build_prompts(predictor.embedding.frame, points, np.ones(points.shape[:2]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_state_dict_is_the_official_one(name: str) -> None:
    spec = get_spec(name)
    assert isinstance(spec, HieraSpec)
    with torch.device("meta"):
        ours = {key: value.shape for key, value in build_sam(spec).state_dict().items()}
        state = official_sam2(spec).state_dict()
    theirs = {SAM2.official(key): value.shape for key, value in state.items()}
    assert ours == theirs
    assert {key.split(".")[0] for key in state} <= set(SAM2.parts)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(replace(TINY, image_size=64), id="windows as large as the grid"),
        pytest.param(replace(TINY, windows=(8, 4, 8, 4)), id="whole windows"),
        pytest.param(replace(TINY, global_attn_indexes=()), id="windows only"),
        pytest.param(replace(TINY, num_heads=2, background=14), id="two heads, finer table"),
        pytest.param(replace(TINY, version="2.0"), id="2.0"),
    ],
)
def test_encoder_gives_the_official_stages(spec: HieraSpec) -> None:
    ours, theirs = build_sam(spec), official_sam2(spec)
    seed_weights(ours)
    mine = ours.state_dict()
    theirs.load_state_dict({key: mine[SAM2.official(key)] for key in theirs.state_dict()})
    images = torch.randn(2, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        fine, middle, coarse = ours.image_encoder.forward_stages(images)
        expected = theirs.forward_image(images)["backbone_fpn"]
        got = (*ours.mask_decoder.fine_maps(ours.image_encoder.neck, fine, middle), coarse)
    for one, other in zip(got, expected, strict=True):
        assert other.std() > 0.05
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_spec_says_what_flows_and_what_stands_around() -> None:
    spec = get_spec("sam2.1_hiera_tiny")
    assert [(one.name, one.shape) for one in spec.maps] == [
        ("image_embeddings", (256, 64, 64)),
        ("high_res_features_s0", (32, 256, 256)),
        ("high_res_features_s1", (64, 128, 128)),
    ]
    assert spec.mask_choice is MaskChoice.STABLE
    assert spec.generation is Generation.SAM2


def test_hugging_faces_layout(sam2_checkpoint: Path, tmp_path: Path) -> None:
    """The same weights as `transformers` saves them, with and without the modules for video."""
    from safetensors.torch import save_file

    images = hugging_face_model(load_checkpoint(sam2_checkpoint).state_dict)
    for model in (images, images.video):
        folder = tmp_path / type(model).__name__
        folder.mkdir()
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
            folder / "model.safetensors",
        )
        model.config.save_pretrained(folder)
        found = load_checkpoint(folder)
        assert found.notices == ()
        is_video = model is not images
        assert found.spec.name == (TINY.name if is_video else "custom")
        for name, tensor in load_checkpoint(sam2_checkpoint).state_dict.items():
            if is_video or not name.startswith("memory."):
                assert torch.equal(found.state_dict[name], tensor), name


@pytest.mark.parametrize(
    "change",
    [
        {"sigmoid_scale_for_mem_enc": 10.0},
        {"max_object_pointers_in_encoder": 8},
        {"multimask_output_for_tracking": False},
        {"multimask_max_pt_num": 2},
        {"memory_attention_num_attention_heads": 4},
        {"memory_fuser_hidden_act": "relu"},
        {"rope_parameters": {"rope_theta": 500.0}},
        {"image_size": 1024},
        {"enable_temporal_pos_encoding_for_object_pointers": False},
        {"prompt_encoder_config": {"image_size": 1024}},
    ],
    ids=str,
)
def test_another_way_to_follow_objects_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam2_video", **change}))
    (name,) = change
    with pytest.raises(CheckpointError, match=rf"config\.json: {name}.* is "):
        check_config(tmp_path, TINY)


def hugging_face_model(state: dict[str, torch.Tensor]) -> Any:
    """Return a tiny `Sam2Model`, its `video` a `Sam2VideoModel`, with these weights."""
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

    from samtrt.checkpoints.layouts import HUGGING_FACE_SAM2

    widths = [32, 64, 128, 256]
    backbone = {
        "hidden_size": 32,
        "image_size": [128, 128],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": widths,
        "window_size_per_stage": [8, 4, 6, 3],
        "global_attention_blocks": [3],
    }
    parts = {
        "vision_config": {
            "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        "prompt_encoder_config": {"image_size": 128},
    }
    images = Sam2Model(Sam2Config(**parts)).eval()
    video = Sam2VideoModel(
        Sam2VideoConfig(**parts, image_size=128, memory_attention_rope_feat_sizes=[8, 8])
    ).eval()
    layout = HUGGING_FACE_SAM2
    for model in (images, video):
        theirs = {}
        for name in model.state_dict():
            official = layout.official(name)
            row = layout.splits.get(official)
            theirs[name] = (
                torch.cat([state[row.format(i)] for i in range(4)]) if row else state[official]
            )
        model.load_state_dict(theirs, strict=True)
    object.__setattr__(images, "video", video)
    return images
