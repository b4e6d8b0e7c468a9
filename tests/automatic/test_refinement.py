"""What SAM 2's generator has and SAM's has not: masks refined once, and one mask a point."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.choices import MaskChoice
from samtrt.decoding import select_masks
from samtrt.errors import PromptError
from samtrt.manifest import Manifest
from samtrt.masks.record import MaskRecord
from support.blobs import blob_predictor
from support.oracle import random_image, sam2_package
from support.samples import make_manifest, make_video_manifest

SOME_MASKS = {"pred_iou_thresh": 0.8, "stability_score_thresh": 0.85}
EVERY_MASK = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.9}
WAYS: list[dict[str, Any]] = [
    {"use_m2m": True},
    {"multimask_output": False},
    {"use_m2m": True, "multimask_output": False},
]


class BlobOfficialPredictor:
    """What the official generator asks of `SAM2ImagePredictor`, on the decoder of blobs."""

    def __init__(self, manifest: Manifest) -> None:
        self.ours = blob_predictor(manifest)
        self.device = torch.device("cpu")
        self._transforms = SimpleNamespace(transform_coords=self._coords)

    def set_image(self, image: np.ndarray) -> None:
        self.ours.set_image(image)

    def reset_predictor(self) -> None:
        self.ours.reset_image()

    def _coords(
        self, coords: torch.Tensor, normalize: bool, orig_hw: tuple[int, int]
    ) -> torch.Tensor:
        assert normalize
        return coords / torch.tensor(orig_hw[::-1]) * self.ours.manifest.image_size

    def _predict(
        self,
        coords: torch.Tensor,
        labels: torch.Tensor,
        mask_input: torch.Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        assert return_logits
        count, size = len(coords), self.ours.manifest.mask_size
        masks = np.zeros((count, 1, size, size), np.float32)
        if mask_input is not None:
            masks = mask_input.numpy()
        out = self.ours.decoder.run(
            {
                **self.ours.embedding.maps,
                "point_coords": F.pad(coords.float(), (0, 0, 0, 1)).numpy(),
                "point_labels": F.pad(labels.float(), (0, 1), value=-1).numpy(),
                "mask_input": masks,
                "has_mask_input": np.full(count, mask_input is not None, np.float32),
            }
        )
        found = select_masks(
            out["low_res_masks"], out["iou_predictions"], multimask_output, MaskChoice.STABLE
        )
        low, ious = map(torch.from_numpy, found)
        full = F.interpolate(low, self.ours.original_size, mode="bilinear", align_corners=False)
        return full, ious, low.clamp(-32, 32)


def official_masks(
    manifest: Manifest, image: np.ndarray, **options: Any
) -> list[dict[str, np.ndarray]]:
    model = SimpleNamespace(image_size=manifest.image_size, device=torch.device("cpu"))
    package = sam2_package().automatic_mask_generator
    # Its own predictor is never asked; a model that it can be made of is not needed.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "SAM2ImagePredictor", lambda *_, **__: None)
        generator = package.SAM2AutomaticMaskGenerator(model, **options)
    generator.predictor = BlobOfficialPredictor(manifest)
    found: list[dict[str, np.ndarray]] = generator.generate(image)
    return found


def assert_same(ours: list[MaskRecord], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        differing = np.count_nonzero(mine["segmentation"] != other["segmentation"])
        assert differing <= max(1, 0.001 * other["area"])
        np.testing.assert_allclose(mine["bbox"], other["bbox"], atol=1)
        np.testing.assert_allclose(mine["point_coords"], other["point_coords"], rtol=1e-6)
        assert mine["crop_box"] == other["crop_box"]
        assert mine["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-5)
        assert mine["stability_score"] == pytest.approx(other["stability_score"], abs=1e-3)


@pytest.mark.parametrize("size", [(150, 200), (300, 211)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"crop_n_layers": 1, "points_per_batch": 5},
        {"crop_n_layers": 2, "crop_n_points_downscale_factor": 2, "crop_overlap_ratio": 0.2},
        {"points_per_batch": 7, **EVERY_MASK},
        {"stability_score_offset": 3.0, "stability_score_thresh": 0.7, "crop_nms_thresh": 0.4},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_every_setting_gives_the_official_masks(
    size: tuple[int, int], settings: dict[str, Any], way: dict[str, Any]
) -> None:
    manifest, image = make_video_manifest(), random_image(*size)
    options = {"points_per_side": 6, **SOME_MASKS, **settings, **way}
    found = AutomaticMaskGenerator(blob_predictor(manifest), **options).generate(image)
    assert len(found) >= 2
    assert_same(found, official_masks(manifest, image, **options))


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_batches_and_prompts_per_run_do_not_change_the_masks(way: dict[str, Any]) -> None:
    image, found = random_image(90, 130), []
    for batch, per_run in ((64, 16), (7, 3), (1, 1), (5, 64)):
        predictor = blob_predictor(make_video_manifest())
        predictor.prompts_per_run = per_run
        generator = AutomaticMaskGenerator(
            predictor,
            points_per_side=4,
            points_per_batch=batch,
            output_mode="coco_rle",
            **SOME_MASKS,
            **way,
        )
        found.append(generator.generate(image))
    assert found[0]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_progress_counts_points(way: dict[str, Any]) -> None:
    calls: list[tuple[int, int]] = []
    predictor = blob_predictor(make_video_manifest())
    options: dict[str, Any] = {"points_per_side": 4, "points_per_batch": 6, **EVERY_MASK, **way}
    AutomaticMaskGenerator(predictor, **options).generate(
        random_image(60, 80), lambda *call: calls.append(call)
    )
    assert calls == sorted(calls)
    assert calls[-1] == (16, 16)


def test_a_search_can_be_ended_while_masks_are_refined() -> None:
    class EndedError(Exception):
        pass

    predictor = blob_predictor(make_video_manifest())
    predictor.prompts_per_run = 1
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 4:
            raise EndedError

    generator = AutomaticMaskGenerator(predictor, points_per_side=8, use_m2m=True, **EVERY_MASK)
    with pytest.raises(EndedError):
        generator.generate(random_image(60, 80), check=check)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({"use_m2m": True}, "use_m2m is for models of SAM 2's kind: leave it out for vit_t"),
        ({"multimask_output": False}, "one mask a point .* leave it out for vit_t"),
    ],
)
def test_a_sam_is_refused(way: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        AutomaticMaskGenerator(blob_predictor(make_manifest()), **way)


def test_a_sam_hq_gives_one_mask_or_the_best_but_refines_none() -> None:
    predictor = blob_predictor(make_manifest(mask_choice=MaskChoice.BEST))
    options: dict[str, Any] = {"points_per_side": 3, **EVERY_MASK, "box_nms_thresh": 1.0}
    best, single = (
        AutomaticMaskGenerator(predictor, multimask_output=several, **options).generate(
            random_image(60, 80)
        )
        for several in (True, False)
    )
    assert len(best) == len(single) == 9
    by_scores = ([one["predicted_iou"] for one in found] for found in (best, single))
    assert next(by_scores) != next(by_scores)
    with pytest.raises(PromptError, match="use_m2m is for models of SAM 2's kind"):
        AutomaticMaskGenerator(predictor, use_m2m=True)
