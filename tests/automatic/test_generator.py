"""Automatic masks against the official generator: the same masks, boxes, points and order."""

from __future__ import annotations

import importlib
import resource
from typing import Any

import numpy as np
import pytest
import torch

from samtrt import assets
from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.backends.pytorch import PyTorchBackend, manifest_of
from samtrt.choices import Stage
from samtrt.errors import ImageError, PromptError
from samtrt.manifest import Manifest
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord
from samtrt.masks.specks import cell_area, specks_of
from samtrt.models import build_sam, seed_weights
from samtrt.predictor import Predictor
from samtrt.registry import OFFICIAL_THRESHOLDS, get_spec
from support.blobs import blob_predictor
from support.oracle import official_sam, random_image, segment_anything_oracle
from support.samples import make_manifest
from support.suppression import brute_force_nms

SIZES = [(150, 200), (300, 211), (60, 40)]
"""Smaller and larger than the model's input, upright, flat and tiny."""
TRAINED = assets.SMALL_CHECKPOINT


@pytest.fixture(scope="module")
def official() -> Any:
    """The official module, with a plain NMS in the place of torchvision's."""
    segment_anything_oracle()
    module = importlib.import_module("segment_anything.automatic_mask_generator")
    module.batched_nms = lambda boxes, scores, idxs, iou_threshold: torch.as_tensor(  # noqa: ARG005
        brute_force_nms(boxes.numpy(), scores.numpy(), iou_threshold), dtype=torch.long
    )
    return module


class BlobOfficialPredictor:
    """What the official generator asks of `SamPredictor`, on the decoder of tests/blobs.py."""

    def __init__(self, official: Any, manifest: Manifest) -> None:
        self.model = official_sam(get_spec("vit_t"))
        self.ours = blob_predictor(manifest)
        self.transform = official.SamPredictor(self.model).transform
        self.device = torch.device("cpu")

    def set_image(self, image: np.ndarray) -> None:
        self.ours.set_image(image)

    def reset_image(self) -> None:
        self.ours.reset_image()

    def predict_torch(
        self, coords: torch.Tensor, labels: torch.Tensor, **options: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        assert options == {"multimask_output": True, "return_logits": True}
        embedding, size = self.ours.embedding, self.ours.manifest.mask_size
        out = self.ours.decoder.run(
            {
                "image_embeddings": embedding.features,
                "point_coords": coords.float().numpy(),
                "point_labels": labels.float().numpy(),
                "mask_input": np.zeros((len(coords), 1, size, size), dtype=np.float32),
                "has_mask_input": np.zeros(len(coords), dtype=np.float32),
            }
        )
        low = torch.from_numpy(out["low_res_masks"][:, 1:])
        masks = self.model.postprocess_masks(low, embedding.frame.resized, embedding.original_size)
        return masks, torch.from_numpy(out["iou_predictions"][:, 1:]), low


def assert_same(ours: list[MaskRecord], theirs: list[dict[str, Any]]) -> None:
    """Same masks in the same order; every other field equal."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        # One pixel may have a logit that is zero to rounding, also in a small mask.
        differing = np.count_nonzero(mine["segmentation"] != other["segmentation"])
        assert differing <= max(1, 0.001 * other["area"])
        assert mine["area"] == np.count_nonzero(mine["segmentation"])
        np.testing.assert_allclose(mine["bbox"], other["bbox"], atol=1)
        np.testing.assert_allclose(mine["point_coords"], other["point_coords"])
        assert mine["crop_box"] == other["crop_box"]
        assert mine["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-5)
        assert mine["stability_score"] == pytest.approx(other["stability_score"], abs=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"crop_n_layers": 1},
        {"crop_n_layers": 2, "crop_n_points_downscale_factor": 2, "crop_overlap_ratio": 0.2},
        {"min_mask_region_area": 25},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.9},
        {"stability_score_offset": 3.0, "stability_score_thresh": 0.7, "crop_nms_thresh": 0.4},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
def test_every_setting_gives_the_official_masks(
    official: Any, size: tuple[int, int], settings: dict[str, Any]
) -> None:
    manifest = make_manifest()
    image = random_image(*size)
    theirs = official.SamAutomaticMaskGenerator(
        official_sam(get_spec("vit_t")), points_per_side=6, **settings
    )
    theirs.predictor = BlobOfficialPredictor(official, manifest)
    ours = AutomaticMaskGenerator(blob_predictor(manifest), points_per_side=6, **settings)
    found = ours.generate(image)
    assert len(found) >= 3
    assert_same(found, theirs.generate(image))


@pytest.mark.parametrize("layers", [0, 1])
def test_seeded_weights_from_image_to_masks(official: Any, layers: int) -> None:
    """The whole way, encoder and decoder included, at thresholds that leave some masks."""
    manifest, sam, theirs_sam = (
        make_manifest(mask_threshold=1.0),
        build_sam(get_spec("vit_t")),
        official_sam(get_spec("vit_t")),
    )
    seed_weights(sam, 3)
    theirs_sam.load_state_dict(sam.state_dict())
    theirs_sam.mask_threshold = manifest.mask_threshold
    predictor = Predictor(*(PyTorchBackend(sam, manifest, s) for s in Stage), manifest)
    settings: dict[str, Any] = {
        "points_per_side": 4 - 2 * layers,
        "pred_iou_thresh": -1.0,
        "stability_score_thresh": 0.8,
        "stability_score_offset": 0.02,
        "box_nms_thresh": 0.98,
        "crop_nms_thresh": 0.98,
        "crop_n_layers": layers,
    }
    for seed, size in enumerate(SIZES):
        image = random_image(*size, seed)
        found = AutomaticMaskGenerator(predictor, **settings).generate(image)
        assert found
        assert_same(
            found, official.SamAutomaticMaskGenerator(theirs_sam, **settings).generate(image)
        )


def test_output_modes_describe_the_same_masks() -> None:
    image = random_image(90, 130)
    modes = {
        mode: AutomaticMaskGenerator(
            blob_predictor(make_manifest()), points_per_side=5, output_mode=mode
        ).generate(image)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    }
    assert len(modes["binary_mask"]) > 3
    for plain, runs, coco in zip(*modes.values(), strict=True):
        mask = plain["segmentation"]
        assert isinstance(runs["segmentation"]["counts"], list)
        assert isinstance(coco["segmentation"]["counts"], str)
        np.testing.assert_array_equal(rle.decode(runs["segmentation"]), mask)
        np.testing.assert_array_equal(rle.decode(coco["segmentation"]), mask)
        assert {**plain, "segmentation": 0} == {**runs, "segmentation": 0}


def test_an_embedding_serves_for_the_image_unless_crops_are_asked_for() -> None:
    predictor, image = blob_predictor(make_manifest()), random_image(90, 130)
    options: dict[str, Any] = {"points_per_side": 4, "output_mode": "coco_rle"}
    generator = AutomaticMaskGenerator(predictor, **options)
    embedding = predictor.encode(image)
    assert generator.generate(embedding) == generator.generate(image)
    with pytest.raises(ImageError, match="need the image, not its embedding"):
        AutomaticMaskGenerator(predictor, crop_n_layers=1, **options).generate(embedding)


def test_batches_and_prompts_per_run_do_not_change_the_masks() -> None:
    image = random_image(90, 130)
    found = []
    for batch, per_run in ((64, 16), (7, 3), (1, 1)):
        predictor = blob_predictor(make_manifest())
        predictor.prompts_per_run = per_run
        generator = AutomaticMaskGenerator(
            predictor, points_per_side=4, points_per_batch=batch, output_mode="coco_rle"
        )
        found.append(generator.generate(image))
    assert found[0] == found[1] == found[2]


def test_own_grids_reach_the_edge_and_progress_is_told() -> None:
    calls: list[tuple[int, int]] = []
    grid = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]])
    generator = AutomaticMaskGenerator(
        blob_predictor(make_manifest()),
        points_per_side=None,
        point_grids=[grid],
        points_per_batch=2,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        box_nms_thresh=1,
    )
    found = generator.generate(random_image(40, 60), lambda *call: calls.append(call))
    assert calls == [(2, 3), (3, 3)]
    assert len(found) == 9
    assert [60.0, 40.0] in [record["point_coords"][0] for record in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": None}, "either points_per_side or point_grids"),
        ({"point_grids": [np.zeros((1, 2))]}, "either points_per_side or point_grids"),
        ({"points_per_side": 0}, "leave none"),
        ({"crop_n_layers": 3, "crop_n_points_downscale_factor": 4}, "leave none"),
        ({"output_mode": "png"}, "unknown output_mode 'png'"),
        ({"points_per_batch": 0}, "points_per_batch must be"),
        ({"crop_overlap_ratio": 1.0}, "crop_overlap_ratio"),
        ({"points_per_side": None, "point_grids": [np.zeros(3)]}, "must be N x 2"),
        ({"points_per_side": None, "point_grids": [np.full((1, 2), 2.0)]}, "must lie in"),
        (
            {"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1},
            "need 2 point grids",
        ),
    ],
)
def test_unusable_settings_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        AutomaticMaskGenerator(blob_predictor(make_manifest()), **options)


def test_a_wrong_image_is_told() -> None:
    generator = AutomaticMaskGenerator(blob_predictor(make_manifest()))
    with pytest.raises(ImageError, match="H x W x 3"):
        generator.generate(np.zeros((4, 4), dtype=np.uint8))


def test_memory_stays_bounded_for_large_images_and_many_points() -> None:
    """64 points at 5000 x 3000 give 192 masks of 15 M pixels: 3 GB as bitmaps, 11 GB as logits."""
    generator = AutomaticMaskGenerator(
        blob_predictor(make_manifest()),
        points_per_side=8,
        pred_iou_thresh=0,
        output_mode="coco_rle",
    )
    image = np.zeros((3000, 5000, 3), dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = generator.generate(image)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert found
    assert found[0]["segmentation"]["size"] == [3000, 5000]
    assert grown < 1.0 * 2**20


@pytest.mark.skipif(not TRAINED.exists(), reason="the trained checkpoint is not there")
@pytest.mark.long
@pytest.mark.parametrize("layers", [0, 1])
def test_trained_weights(official: Any, layers: int) -> None:
    """At low thresholds, so that many masks are compared."""
    from samtrt.assets import verification_images
    from samtrt.checkpoints.load import load_checkpoint, load_sam

    checkpoint = load_checkpoint(TRAINED)
    sam, manifest = load_sam(checkpoint), manifest_of(checkpoint)
    theirs_sam = official_sam(sam.spec)
    theirs_sam.load_state_dict(sam.state_dict())
    predictor = Predictor(*(PyTorchBackend(sam, manifest, s) for s in Stage), manifest)
    settings: dict[str, Any] = {
        "points_per_side": 5 - 2 * layers,
        "pred_iou_thresh": 0.25,
        "stability_score_thresh": 0.25,
        "crop_n_layers": layers,
    }
    images = list(verification_images().values())
    for image in images[: 1 if layers else 2]:  # five encodings an image with crops
        found = AutomaticMaskGenerator(predictor, **settings).generate(image)
        assert found
        assert_same(
            found, official.SamAutomaticMaskGenerator(theirs_sam, **settings).generate(image)
        )


def test_thresholds_belong_to_the_model() -> None:
    own = {"pred_iou": 0.3, "stability": 0.4}
    predictor = blob_predictor(make_manifest(automatic=own))
    image = random_image(60, 80)
    unasked = AutomaticMaskGenerator(predictor, points_per_side=4)
    assert (unasked.thresholds.pred_iou, unasked.thresholds.stability) == (0.3, 0.4)
    asked = AutomaticMaskGenerator(
        blob_predictor(make_manifest()),
        points_per_side=4,
        pred_iou_thresh=0.3,
        stability_score_thresh=0.4,
    )
    usual = AutomaticMaskGenerator(blob_predictor(make_manifest()), points_per_side=4)
    scores = [record["predicted_iou"] for record in unasked.generate(image)]
    assert scores == [record["predicted_iou"] for record in asked.generate(image)]
    assert len(scores) > len(usual.generate(image))
    assert usual.thresholds == OFFICIAL_THRESHOLDS
    assert get_spec("vit_s").thresholds != OFFICIAL_THRESHOLDS


def test_specks_go_and_the_order_stays() -> None:
    """Of the same masks, those without small parts; nothing but small parts differs."""
    predictor, image = blob_predictor(make_manifest()), random_image(150, 200)
    settings: dict[str, Any] = {"points_per_side": 6, "pred_iou_thresh": 0.0}
    settings["stability_score_thresh"] = 0.0
    plain = AutomaticMaskGenerator(predictor, **settings).generate(image)
    clean = AutomaticMaskGenerator(predictor, specks=60, **settings).generate(image)
    assert 0 < len(clean) <= len(plain)
    ious = [mask["predicted_iou"] for mask in clean]
    assert ious == sorted(ious, reverse=True)
    by_point = {tuple(mask["point_coords"][0]): mask["segmentation"] for mask in plain}
    area = 60 * cell_area(predictor.manifest.frame((150, 200)))
    changes = 0
    for mask in clean:
        after = mask["segmentation"]
        assert specks_of(after, area) is None
        assert mask["area"] == after.sum()
        changes += int((by_point[tuple(mask["point_coords"][0])] != after).any())
    assert changes
