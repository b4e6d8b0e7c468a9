"""Each family against its official code, same seeded weights: from an image to masks.

SAM-HQ and Light HQ-SAM: `segment-anything-hq==0.3`. MobileSAM: `mobilesam-mirror==1.0.0`.
EfficientViT-SAM: `efficientsam==1.0.0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.backends.pytorch import manifest_of, open_checkpoint
from samtrt.checkpoints.load import Checkpoint, load_checkpoint, load_sam
from samtrt.choices import MaskChoice, Stage
from samtrt.errors import PromptError
from samtrt.masks.prediction import Prediction
from samtrt.models import build_sam, seed_weights
from samtrt.models.efficientvit import LinearAttention
from samtrt.models.graphs import EncoderGraph
from samtrt.models.layers import Norm2d
from samtrt.predictor import Predictor
from samtrt.registry import EfficientViTSpec, ModelSpec, TinyViTSpec, get_spec
from support.oracle import official_generator, official_predictor, official_sam

HQ = replace(get_spec("vit_t"), name="custom", hq=True)
# The official TinyViT takes no other image size, and no other last width.
MOBILE = TinyViTSpec(
    name="custom", widths=(8, 16, 16, 320), depths=(1, 1, 2, 1), heads=(1, 2, 4), windows=(7, 14, 7)
)
# The official EfficientViT-SAM takes no other size of embedding than 64 x 64.
EFFICIENTVIT = EfficientViTSpec(
    name="custom",
    input_size=512,
    widths=(8, 16, 24, 32, 40),
    depths=(1, 1, 1, 1, 1),
    head_dim=8,
    neck_width=32,
    neck_depth=2,
)
LARGE = EfficientViTSpec(
    name="custom",
    widths=(8, 8, 16, 24, 32, 40),
    depths=(0, 1, 1, 1, 1, 1),
    blocks=("fmb", "fmb", "fmb", "att", "att"),
    fewer_norms=(False, False, False, True, True),
    head_dim=8,
    kernel=3,
    neck_width=32,
    neck_depth=1,
    neck_ratio=4,
)
FAMILIES: dict[str, ModelSpec] = {
    "SAM-HQ": HQ,
    "MobileSAM": MOBILE,
    "Light HQ-SAM": replace(MOBILE, hq=True),
    "EfficientViT-SAM at 512": EFFICIENTVIT,
    "EfficientViT-SAM at 1024": LARGE,
}

PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": np.array([[90.0, 60.0]]), "point_labels": np.array([1])},
    "points": {
        "point_coords": np.array([[90.0, 60.0], [20.0, 30.0]]),
        "point_labels": np.array([1, 0]),
    },
    "box": {"box": np.array([20.0, 10.0, 150.0, 100.0])},
}


@dataclass
class Pair:
    """The same weights in the official code and, as a checkpoint of it, in ours."""

    spec: ModelSpec
    official: torch.nn.Module
    checkpoint: Checkpoint
    predictor: Predictor


@pytest.fixture(scope="module", params=FAMILIES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    spec = FAMILIES[request.param]
    official = official_sam(spec)
    seed_weights(official)
    official.train().eval()  # TinyViT makes its table of biases when it is told to
    path = tmp_path_factory.mktemp("family") / "official.pth"
    torch.save(official.state_dict(), path)
    checkpoint = load_checkpoint(path)
    manifest = manifest_of(checkpoint)
    stages = open_checkpoint(checkpoint, manifest, "cpu")
    with Predictor(stages[Stage.ENCODER], stages[Stage.DECODER], manifest) as predictor:
        yield Pair(spec, official, checkpoint, predictor)


def test_official_files_are_recognised(pair: Pair) -> None:
    assert pair.checkpoint.spec == pair.spec
    assert pair.predictor.manifest.family is pair.spec.family


def test_encoder_gives_the_official_embedding(pair: Pair) -> None:
    ours = load_sam(pair.checkpoint)
    assert not any(isinstance(module, Norm2d) for module in ours.modules()), "all are folded"
    size = pair.spec.encoder_size
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got = EncoderGraph(ours)(images)
        found = pair.official.image_encoder(images)
        expected = [found] if isinstance(found, torch.Tensor) else [found[0]]
        if pair.spec.hq:
            decoder, early = pair.official.mask_decoder, found[1][0].permute(0, 3, 1, 2)
            expected.append(decoder.embedding_encoder(found[0]) + decoder.compress_vit_feat(early))
    for mine, theirs, one in zip(got, expected, pair.spec.maps, strict=True):
        assert mine.shape == theirs.shape == (1, *one.shape)
        assert theirs.std() > 0.05, "a dead output would compare equal whatever the code does"
        assert (mine - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize("multimask", [True, False])
def test_predictor_gives_the_official_masks(
    pair: Pair, picture: np.ndarray, multimask: bool
) -> None:
    theirs = official_predictor(pair.spec, pair.official)
    theirs.set_image(picture)
    pair.predictor.set_image(picture)
    for prompt in PROMPTS.values():
        expected = Prediction(*theirs.predict(**prompt, multimask_output=multimask))
        got = pair.predictor.predict(**prompt, multimask_output=multimask)
        assert got.masks.shape == expected.masks.shape
        assert len(got.masks) == (3 if multimask and not pair.spec.hq else 1)
        assert np.abs(got.low_res_logits - expected.low_res_logits).max() <= 1e-4
        assert np.abs(got.iou_predictions - expected.iou_predictions).max() <= 1e-4
        assert 0.001 < expected.masks.mean() < 0.999
        assert (got.masks != expected.masks).mean() < 1e-4


@pytest.mark.parametrize("multimask", [True, False])
def test_automatic_masks_are_the_official_ones(
    pair: Pair, picture: np.ndarray, multimask: bool
) -> None:
    """The generator of SAM-HQ alone can be asked for one mask a point."""
    options = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    asked: dict[str, bool] = {} if multimask else {"multimask_output": False}
    if asked and not pair.spec.hq:
        with pytest.raises(PromptError, match="SAM-HQs"):
            AutomaticMaskGenerator(pair.predictor, **options, **asked)
        return
    theirs = official_generator(pair.spec, pair.official, **options)
    expected = theirs.generate(picture, **asked)
    got = AutomaticMaskGenerator(pair.predictor, **options, **asked).generate(picture)
    assert len(got) == len(expected) > 0
    for mine, other in zip(got, expected, strict=True):
        assert (mine["segmentation"] != other["segmentation"]).mean() < 1e-4
        assert abs(mine["predicted_iou"] - other["predicted_iou"]) <= 1e-4
        assert mine["point_coords"] == other["point_coords"]


def test_specs_say_what_flows_and_which_masks_answer() -> None:
    for spec in FAMILIES.values():
        further = [("hq_features", (32, spec.mask_size, spec.mask_size))] if spec.hq else []
        assert [(one.name, one.shape) for one in spec.maps[1:]] == further
        assert spec.mask_choice is (MaskChoice.BEST if spec.hq else MaskChoice.SAM)


def test_unused_tensors_are_left_out(tmp_path: Path) -> None:
    """What TinyViT's training left, and tables that older code kept."""
    sam = build_sam(get_spec("mobile_sam_t"))
    seed_weights(sam)
    state = sam.state_dict()
    attention = "image_encoder.layers.1.blocks.0.attn."
    more = {
        f"{attention}ab": torch.zeros(1, 49, 49),
        f"{attention}attention_bias_idxs": torch.zeros(49, 49, dtype=torch.int64),
        "image_encoder.norm_head.weight": torch.zeros(64),
        "image_encoder.head.weight": torch.zeros(1000, 64),
        "image_encoder.patch_embed.seq.0.bn.num_batches_tracked": torch.tensor(7),
    }
    torch.save({**state, **more}, tmp_path / "more.pth")
    loaded = load_checkpoint(tmp_path / "more.pth")
    assert loaded.spec is get_spec("mobile_sam_t")
    assert loaded.state_dict.keys() == state.keys()


def test_linear_attention_of_nothing_is_nothing() -> None:
    attention = LinearAttention(16, 8, 3)
    attention.proj = torch.nn.Identity()
    assert (attention(torch.zeros(1, 16, 5, 5)) == 0).all()


def test_hq_token_only(hq_checkpoint: Path, picture: np.ndarray) -> None:
    """SAM-HQ's own mask alone, as `hq_token_only` of the official `predict` gives it."""
    official = official_sam(HQ)
    official.load_state_dict(torch.load(hq_checkpoint))
    theirs = official_predictor(HQ, official)
    theirs.set_image(picture)
    checkpoint = load_checkpoint(hq_checkpoint)
    manifest = manifest_of(checkpoint).model_copy(update={"hq_token_only": True})
    stages = open_checkpoint(checkpoint, manifest, "cpu")
    ours = Predictor(stages[Stage.ENCODER], stages[Stage.DECODER], manifest)
    ours.set_image(picture)
    for several in (True, False):
        arguments = {**PROMPTS["points"], "multimask_output": several}
        got = ours.predict(**arguments)
        expected = Prediction(*theirs.predict(**arguments, hq_token_only=True))
        assert np.abs(got.low_res_logits - expected.low_res_logits).max() <= 1e-4
        assert np.abs(got.iou_predictions - expected.iou_predictions).max() <= 1e-4
        summed = theirs.predict(**arguments)[2]
        assert np.abs(got.low_res_logits - summed).max() > 0.1
