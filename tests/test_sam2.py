"""SAM 2 exported: engines against the checkpoint, and what stands around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, Generation, MaskChoice
from samtrt.client import Client
from samtrt.embeddings import load_embedding, save_embedding
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.preparation.spec import SAM2
from samtrt.server.app import create_app
from samtrt.verification.compare import verify
from support.oracle import fit_sizes, official_sam2, sam2_package
from support.server_cases import live

EVERY_MASK = {
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
}
WAYS: list[dict[str, Any]] = [
    {},
    {"use_m2m": True, "points_per_batch": 7},
    {"multimask_output": False, "points_per_batch": 5},
    {"use_m2m": True, "multimask_output": False},
]
POINT = {"point_coords": [[90, 60]], "point_labels": [1]}


@pytest.fixture(scope="module")
def predictor(sam2_model: Path) -> Iterator[Predictor]:
    with Predictor.load(sam2_model) as loaded:
        yield loaded


def test_the_manifest_says_what_the_model_is(sam2_model: Path) -> None:
    manifest = Manifest.load(sam2_model)
    assert manifest.model == "sam2.1_hiera_t"
    assert [one.name for one in manifest.maps] == [
        "image_embeddings",
        "high_res_features_s0",
        "high_res_features_s1",
    ]
    assert (manifest.mask_choice, manifest.generation) == (MaskChoice.STABLE, Generation.SAM2)
    assert manifest.preparation == SAM2
    decoder = onnx.load(sam2_model / "decoder.onnx").graph
    assert [one.name for one in decoder.output] == [
        "low_res_masks",
        "iou_predictions",
        "object_score_logits",
    ]
    # Nothing of the position tables is computed for an image.
    encoder = onnx.load(sam2_model / "encoder.onnx").graph
    kinds = {node.op_type for node in encoder.node}
    assert kinds.isdisjoint({"Tile", "Resize"})


def test_embeddings_on_disk(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    image, path = tmp_path / "image.bin", tmp_path / "image.safetensors"
    image.write_bytes(b"an image")
    embedding = predictor.encode(picture)
    save_embedding(path, embedding, predictor, image)
    back = load_embedding(path, predictor, image)
    assert back.frame == embedding.frame
    assert path.stat().st_size < 0.6 * embedding.nbytes
    predictor.set_embedding(embedding)
    expected = predictor.predict(**POINT).masks
    predictor.set_embedding(back)
    assert (predictor.predict(**POINT).masks != expected).mean() < 0.01


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"crop_n_layers": 1, "points_per_side": 4}, id="crops"),
        pytest.param({**EVERY_MASK, "crop_n_layers": 1, "points_per_side": 2}, id="every-crops"),
        pytest.param(EVERY_MASK, id="every"),
    ],
)
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_automatic_masks_are_the_official_ones(
    predictor: Predictor,
    sam2_checkpoint: Path,
    picture: np.ndarray,
    options: dict[str, Any],
    way: dict[str, Any],
) -> None:
    model = official_sam2(predictor_spec())
    model.load_state_dict(torch.load(sam2_checkpoint, weights_only=True)["model"])
    common = {
        "points_per_side": 6,
        "pred_iou_thresh": 0.3,
        "stability_score_thresh": 0.5,
        **options,
        **way,
    }
    generator = sam2_package().automatic_mask_generator.SAM2AutomaticMaskGenerator
    official = generator(model, **common)
    fit_sizes(official.predictor)
    expected = official.generate(picture)
    got = AutomaticMaskGenerator(predictor, **common).generate(picture)
    assert len(got) == len(expected) > 0
    for mine, other in zip(got, expected, strict=True):
        assert mine["point_coords"] == pytest.approx(np.array(other["point_coords"]))
        assert mine["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-4)
        assert mine["stability_score"] == pytest.approx(other["stability_score"], abs=2e-3)
        assert mine["crop_box"] == other["crop_box"]
        assert (mine["segmentation"] != other["segmentation"]).mean() < 1e-3


def predictor_spec() -> Any:
    from samtrt.registry import get_spec

    return get_spec("sam2.1_hiera_t")


@pytest.mark.parametrize("backend", [BackendName.ONNXRUNTIME, BackendName.OPENVINO])
def test_engines_are_verified(
    sam2_model: Path, sam2_checkpoint: Path, picture: np.ndarray, backend: BackendName
) -> None:
    options = BackendOptions(checkpoint=sam2_checkpoint)
    with (
        Predictor.load(sam2_model, "pytorch", options) as reference,
        Predictor.load(sam2_model, backend) as candidate,
    ):
        report = verify(reference, candidate, {"noise": picture})
    assert report.failures == ()
    assert min(report.ious) >= 0.999
    assert len(report.embeddings) == 3


def test_the_server_gives_the_predictors_masks(predictor: Predictor, picture: np.ndarray) -> None:
    """A stable prompt and an unstable one, whose single mask is replaced; all maps are counted."""
    with (
        live(create_app(predictor)) as url,
        Client(url) as client,
        client.upload(picture) as image,
    ):
        predictor.set_image(picture)
        asked: list[dict[str, Any]] = [
            {**POINT, "multimask_output": several} for several in (True, False)
        ]
        asked.append({"box": [20, 10, 150, 100], "multimask_output": False})
        for arguments in asked:
            got, expected = image.predict(**arguments), predictor.predict(**arguments)
            np.testing.assert_array_equal(got.masks, expected.masks)
            np.testing.assert_allclose(got.iou_predictions, expected.iou_predictions, rtol=1e-6)
            np.testing.assert_array_equal(got.low_res_logits, expected.low_res_logits)
        embedding = image.embedding()
        assert embedding.maps.keys() == predictor.embedding.maps.keys()
        for name, one in predictor.embedding.maps.items():
            np.testing.assert_array_equal(embedding.maps[name], one)
