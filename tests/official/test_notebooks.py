"""The flows of the official notebooks, start to end, with the import changed: values equal.

Each flow is one function of what it imports; it runs with both packages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import samtrt
from support.official_cases import IMAGE, same
from support.oracle import segment_anything_oracle

Registry = dict[str, Callable[..., Any]]


@pytest.fixture(scope="module")
def packages(official_model: Any) -> list[SimpleNamespace]:
    """What the notebooks import: of ours, and of the official package."""
    oracle = segment_anything_oracle()
    from segment_anything.utils.transforms import ResizeLongestSide

    registry: Registry = {"vit_t": lambda checkpoint: official_model}  # noqa: ARG005
    official = SimpleNamespace(
        SamPredictor=oracle.SamPredictor,
        SamAutomaticMaskGenerator=oracle.SamAutomaticMaskGenerator,
        ResizeLongestSide=ResizeLongestSide,
        sam_model_registry=registry,
    )
    return [samtrt, official]  # type: ignore[list-item]


def compare(packages: list[SimpleNamespace], flow: Callable[..., list[Any]], *given: Any) -> None:
    same(*(flow(package, *given) for package in packages))


def predictor_notebook(package: Any, checkpoint: Path, photo: Path) -> list[Any]:
    """`predictor_example.ipynb`."""
    image = cv2.imread(str(photo))
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    results: list[Any] = []

    sam = package.sam_model_registry["vit_t"](checkpoint=checkpoint)
    sam.to(device="cpu")
    predictor = package.SamPredictor(sam)
    predictor.set_image(image)

    # a point, and which of three masks
    input_point = np.array([[50, 40]])
    input_label = np.array([1])
    masks, scores, logits = predictor.predict(
        point_coords=input_point, point_labels=input_label, multimask_output=True
    )
    assert masks.shape == (3, *image.shape[:2])
    results += [masks, scores, logits]

    # more points, with the best mask as another prompt
    input_point = np.array([[50, 40], [112, 62]])
    input_label = np.array([1, 1])
    mask_input = logits[np.argmax(scores), :, :]
    masks, _, _ = predictor.predict(
        point_coords=input_point,
        point_labels=input_label,
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    results.append(masks)

    # what is not meant
    masks, _, _ = predictor.predict(
        point_coords=input_point,
        point_labels=np.array([1, 0]),
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    results.append(masks)

    # a box, then a box with a point
    input_box = np.array([42, 20, 130, 80])
    masks, _, _ = predictor.predict(
        point_coords=None, point_labels=None, box=input_box[None, :], multimask_output=False
    )
    results.append(masks)
    masks, _, _ = predictor.predict(
        point_coords=np.array([[57, 50]]),
        point_labels=np.array([0]),
        box=input_box,
        multimask_output=False,
    )
    results.append(masks)

    # several boxes at once
    input_boxes = torch.tensor(
        [[7, 22, 130, 80], [27, 43, 45, 55], [100, 40, 139, 62]], device=predictor.device
    )
    transformed_boxes = predictor.transform.apply_boxes_torch(input_boxes, image.shape[:2])
    masks, _, _ = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=transformed_boxes, multimask_output=False
    )
    assert masks.shape == (3, 1, *image.shape[:2])
    assert str(masks.device) == str(predictor.device)
    results += [mask.cpu().numpy() for mask in masks]

    # several images with several boxes each
    resize_transform = package.ResizeLongestSide(sam.image_encoder.img_size)

    def prepare_image(image: Any, transform: Any, device: Any) -> Any:
        image = transform.apply_image(image)
        image = torch.as_tensor(image, device=device.device)
        return image.permute(2, 0, 1).contiguous()

    other = np.ascontiguousarray(image[:70, ::-1])
    other_boxes = torch.tensor([[45, 26, 51, 43], [31, 40, 120, 66]], device=sam.device)
    batched_input = [
        {
            "image": prepare_image(one, resize_transform, sam),
            "boxes": resize_transform.apply_boxes_torch(boxes, one.shape[:2]),
            "original_size": one.shape[:2],
        }
        for one, boxes in ((image, input_boxes), (other, other_boxes))
    ]
    batched_output = sam(batched_input, multimask_output=False)
    assert batched_output[0].keys() == {"masks", "iou_predictions", "low_res_logits"}
    for output in batched_output:
        results += [output["masks"], output["iou_predictions"], output["low_res_logits"]]
    return results


def automatic_notebook(package: Any, checkpoint: Path, photo: Path) -> list[Any]:
    """`automatic_mask_generator_example.ipynb`, with fewer points and lower thresholds."""
    image = cv2.imread(str(photo))
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    sam = package.sam_model_registry["vit_t"](checkpoint=checkpoint)
    sam.to(device="cpu")
    results: list[Any] = []

    def drawn(anns: list[dict[str, Any]]) -> np.ndarray:
        sorted_anns = sorted(anns, key=(lambda x: x["area"]), reverse=True)
        height, width = sorted_anns[0]["segmentation"].shape
        img = np.zeros((height, width))
        for number, ann in enumerate(sorted_anns):
            img[ann["segmentation"]] = number + 1
        return img

    easy = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    mask_generator = package.SamAutomaticMaskGenerator(sam, points_per_side=2, **easy)
    masks = mask_generator.generate(image)
    assert list(masks[0].keys()) == [
        *("segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score"),
        "crop_box",
    ]
    results.append((masks, drawn(masks)))
    mask_generator_2 = package.SamAutomaticMaskGenerator(
        model=sam,
        points_per_side=2,
        crop_n_layers=1,
        crop_n_points_downscale_factor=2,
        min_mask_region_area=100,
        **easy,
    )
    masks2 = mask_generator_2.generate(image)
    results.append((masks2, drawn(masks2)))
    return results


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "truck.png"
    cv2.imwrite(str(path), IMAGE[..., ::-1])
    return path


def test_the_predictor_notebook(
    packages: list[SimpleNamespace], tiny_checkpoint: Path, photo: Path
) -> None:
    compare(packages, predictor_notebook, tiny_checkpoint, photo)


def test_the_automatic_notebook(
    packages: list[SimpleNamespace], tiny_checkpoint: Path, photo: Path
) -> None:
    runs = [automatic_notebook(package, tiny_checkpoint, photo) for package in packages]
    for (ours, picture), (theirs, other) in zip(*runs, strict=True):
        assert len(ours) == len(theirs) > 0
        for one, two in zip(ours, theirs, strict=True):
            assert (one["segmentation"] != two["segmentation"]).sum() <= 2
            for name in ("bbox", "point_coords", "crop_box"):
                np.testing.assert_allclose(one[name], two[name], atol=1)
            for name in ("predicted_iou", "stability_score"):
                assert one[name] == pytest.approx(two[name], abs=1e-4)
        assert (picture != other).sum() <= 4
