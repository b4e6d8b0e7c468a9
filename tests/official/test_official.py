"""Code for the official package, run with both: the same answers, on a tiny seeded checkpoint."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import samtrt
from samtrt import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from samtrt.errors import BackendError, CheckpointError, ImageError, ManifestError, PromptError
from support.official_cases import IMAGE, same
from support.oracle import segment_anything_oracle

PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": np.array([[50, 40]]), "point_labels": np.array([1])},
    "box with an axis": {"box": np.array([10, 12, 80, 70])[None, :], "multimask_output": False},
    "box of corners": {"box": np.array([[10, 12], [80, 70]])},
    "padding": {"point_coords": np.array([[50, 40], [0, 0]]), "point_labels": np.array([1, -1])},
    "border": {"point_coords": np.array([[140, 90]]), "point_labels": np.array([1])},
    "beyond": {"point_coords": np.array([[-7, 95.5]]), "point_labels": np.array([1])},
    "no points, box": {
        "point_coords": np.zeros((0, 2)),
        "point_labels": np.zeros(0),
        "box": np.array([10, 12, 80, 70]),
    },
    "logits": {
        "point_coords": np.array([[50, 40]]),
        "point_labels": np.array([0]),
        "return_logits": True,
    },
}


@pytest.mark.parametrize("name", PROMPTS)
def test_predict(both: tuple[SamPredictor, Any], name: str) -> None:
    ours, theirs = both
    same(ours.predict(**PROMPTS[name]), theirs.predict(**PROMPTS[name]))


def test_state(both: tuple[SamPredictor, Any]) -> None:
    ours, theirs = both
    assert ours.is_image_set is theirs.is_image_set is True
    assert ours.original_size == theirs.original_size
    assert ours.input_size == theirs.input_size
    assert ours.device == str(theirs.device)
    assert ours.model.mask_threshold == theirs.model.mask_threshold
    expected = theirs.get_image_embedding().cpu().numpy()
    assert np.abs(ours.get_image_embedding().cpu().numpy() - expected).max() <= 1e-4
    assert np.abs(np.asarray(ours.features) - theirs.features.numpy()).max() <= 1e-4


def test_batches_of_tensors(both: tuple[SamPredictor, Any]) -> None:
    results = []
    for predictor in both:
        size = IMAGE.shape[:2]
        boxes = torch.tensor([[10, 12, 80, 70], [20, 0, 150, 60]])
        points = torch.tensor([[[50, 40], [0, 0]], [[20, 20], [30, 70]]])
        boxes = predictor.transform.apply_boxes_torch(boxes, size)
        points = predictor.transform.apply_coords_torch(points, size)
        labels = torch.tensor([[1, -1], [1, 0]])
        results.append(
            (
                boxes,
                points,
                *predictor.predict_torch(None, None, boxes=boxes, multimask_output=False),
                *predictor.predict_torch(points, labels),
            )
        )
    same(*results)


def test_images_as_tensors_and_kept_features(both: tuple[SamPredictor, Any]) -> None:
    ours, theirs = both
    resized = ours.transform.apply_image(IMAGE)
    assert np.array_equal(resized, theirs.transform.apply_image(IMAGE))
    tensor = torch.as_tensor(resized).permute(2, 0, 1).contiguous()[None]
    fresh = SamPredictor(ours.model)
    fresh.set_torch_image(tensor, IMAGE.shape[:2])
    expected = theirs.predict(**PROMPTS["point"])
    same(fresh.predict(**PROMPTS["point"]), expected)
    kept, sizes = theirs.features, (fresh.original_size, fresh.input_size)
    fresh.reset_image()
    assert not fresh.is_image_set
    assert fresh.features is None
    fresh.features, (fresh.original_size, fresh.input_size) = kept, sizes
    fresh.is_image_set = True
    same(fresh.predict(**PROMPTS["point"]), expected)


def test_automatic_masks(both: tuple[SamPredictor, Any]) -> None:
    ours, theirs = both
    options: dict[str, Any] = {
        "points_per_side": 3,
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 1.0,
    }
    found = SamAutomaticMaskGenerator(model=ours.model, **options).generate(IMAGE)
    generator = segment_anything_oracle().SamAutomaticMaskGenerator(theirs.model, **options)
    expected = generator.generate(IMAGE)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert one["point_coords"] == other["point_coords"]
        assert (one["segmentation"] != other["segmentation"]).sum() <= 2


def test_a_model_directory_needs_no_checkpoint(
    tiny_model: Path, both: tuple[SamPredictor, Any]
) -> None:
    predictor = samtrt.SamPredictor(str(tiny_model))
    predictor.set_image(IMAGE)
    got = predictor.predict(**PROMPTS["point"])
    assert np.abs(got[2] - both[1].predict(**PROMPTS["point"])[2]).max() <= 1e-3
    with pytest.raises(ManifestError, match="holds vit_t, not vit_b"):
        sam_model_registry["vit_b"](checkpoint=tiny_model)
    with pytest.raises(BackendError, match="model directory; the pytorch backend runs its check"):
        sam_model_registry["vit_t"](checkpoint=tiny_model, backend="pytorch")


def test_models_are_refused_in_a_line(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="needs weights"):
        sam_model_registry["vit_b"]()
    with pytest.raises(BackendError, match="samtrt export"):
        sam_model_registry["vit_t"](checkpoint=tiny_checkpoint, backend="onnxruntime")
    with pytest.raises(CheckpointError, match="not NoneType"):
        SamPredictor(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"point_coords": [5, 5], "point_labels": [1]}, r"shape N x 2, not \(2,\)"),
        ({"point_coords": [[5, 5]], "point_labels": [1, 1]}, r"\(1,\), not \(2,\)"),
        ({"box": [[1, 1, 5, 5], [2, 2, 6, 6]]}, "several boxes at once"),
        ({"box": [50, 50, 20, 20]}, r"of x, y, width, height: x, y, x \+ width"),
        ({"mask_input": np.zeros((64, 64))}, r"1 x M x M, not \(64, 64\)"),
        ({"point_coords": [["a", 5]], "point_labels": [1]}, "array of numbers"),
        (
            {"point_coords": [[0.5, 0.25]], "point_labels": [1]},
            "multiply x by 140 and y by 90",
        ),
        ({"box": [0.1, 0, 0.5, 1]}, "boxes lie in 0..1"),
        ({}, "no prompt"),
    ],
)
def test_mistakes_in_prompts(
    both: tuple[SamPredictor, Any], prompt: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        both[0].predict(**prompt)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "cv2.imread"),
        ("photo.jpg", "a path: use samtrt.read_image"),
        (IMAGE.transpose(2, 0, 1), r"channels first; use image.transpose\(1, 2, 0\)"),
        (IMAGE / 255, "0..1 times 255"),
        (IMAGE.astype(int), "not int64"),
        (torch.from_numpy(IMAGE), "Tensor: use tensor.cpu"),
    ],
)
def test_mistakes_in_images(both: tuple[SamPredictor, Any], image: Any, message: str) -> None:
    fresh = SamPredictor(both[0].model)
    with pytest.raises(ImageError, match=message):
        fresh.set_image(image)
    with pytest.raises(PromptError, match="no image is set: call set_image"):
        fresh.predict(box=[1, 1, 5, 5])


def test_tensors_of_other_libraries_by_dlpack(both: tuple[SamPredictor, Any]) -> None:
    class Shared:
        """What another library gives: its memory, and nothing else."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self._tensor = tensor
            self.__dlpack_device__ = tensor.__dlpack_device__

        def __dlpack__(self, **options: Any) -> object:
            return self._tensor.__dlpack__(**options)

    ours, theirs = both
    boxes = theirs.transform.apply_boxes_torch(torch.tensor([[10, 12, 80, 70]]), IMAGE.shape[:2])
    expected = theirs.predict_torch(None, None, boxes=boxes, multimask_output=False)
    got = ours.predict_torch(None, None, boxes=Shared(boxes), multimask_output=False)
    same(got, expected)
    assert np.from_dlpack(got[1]).shape == (1, 1)
    with pytest.raises(PromptError, match="boxes must be an array of numbers, not str"):
        ours.predict_torch(None, None, boxes="all")


def test_the_generators_arguments_are_the_official_ones() -> None:
    theirs = inspect.signature(segment_anything_oracle().SamAutomaticMaskGenerator.__init__)
    ours = inspect.signature(SamAutomaticMaskGenerator.__init__)
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]
