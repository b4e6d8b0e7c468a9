"""A model with two maps from encoder to decoder, through all that carries them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.backends import BackendOptions
from samtrt.backends.fake import FakeBackend
from samtrt.choices import Precision, Stage
from samtrt.embeddings import load_embedding, save_embedding
from samtrt.errors import ImageError, ManifestError
from samtrt.feature_maps import FeatureMap
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.server.spill import SpillFolder
from samtrt.types import Embedding
from samtrt.verification.compare import verify
from support.samples import edit_sealed

SHAPES = {"image_embeddings": (1, 256, 16, 16), "hq_features": (1, 32, 64, 64)}
POINT = {"point_coords": [[90, 60]], "point_labels": [1]}


@pytest.fixture(scope="module")
def predictor(hq_model: Path) -> Iterator[Predictor]:
    with Predictor.load(hq_model) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def reference(hq_model: Path, hq_checkpoint: Path) -> Iterator[Predictor]:
    options = BackendOptions(checkpoint=hq_checkpoint)
    with Predictor.load(hq_model, "pytorch", options) as loaded:
        yield loaded


def shapes(embedding: Embedding) -> dict[str, tuple[int, ...]]:
    return {name: one.shape for name, one in embedding.maps.items()}


def test_the_manifest_names_what_flows(hq_model: Path, predictor: Predictor) -> None:
    manifest = Manifest.load(hq_model)
    assert manifest.maps == (
        FeatureMap("image_embeddings", (256, 16, 16)),
        FeatureMap("hq_features", (32, 64, 64)),
    )
    assert list(predictor.encoder.outputs) == list(SHAPES)
    assert SHAPES.keys() < predictor.decoder.inputs.keys()
    graph = onnx.load(hq_model / "decoder.onnx").graph
    assert [value.name for value in graph.input][-1] == "hq_features"


class Halved:
    """A backend whose further map is off."""

    def __init__(self, backend: object) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    def run(self, feeds: object, on_host: bool = True) -> object:
        out = self._backend.run(feeds, on_host)  # type: ignore[attr-defined]
        return {**out, "hq_features": out["hq_features"] * np.float32(0.5)}


def test_verify_sees_a_further_map_that_is_off(
    predictor: Predictor, reference: Predictor, picture: np.ndarray
) -> None:
    off = Predictor(Halved(predictor.encoder), predictor.decoder, predictor.manifest)  # type: ignore[arg-type]
    report = verify(reference, off, {"noise": picture})
    assert any("embedding of noise, hq_features is 5" in failure for failure in report.failures)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.FP32])
def test_embeddings_on_disk(
    predictor: Predictor, picture: np.ndarray, tmp_path: Path, precision: Precision
) -> None:
    image, path = tmp_path / "image.bin", tmp_path / "image.safetensors"
    image.write_bytes(b"an image")
    embedding = predictor.encode(picture)
    save_embedding(path, embedding, predictor, image, precision)
    back = load_embedding(path, predictor, image)
    assert shapes(back) == SHAPES
    for name, one in embedding.maps.items():
        np.testing.assert_allclose(back.maps[name], one, rtol=1e-3, atol=1e-6)
    predictor.set_embedding(back)
    assert predictor.predict(**POINT).masks.shape == (1, 120, 200)


def test_an_embedding_without_a_map_is_refused(predictor: Predictor, picture: np.ndarray) -> None:
    embedding = predictor.encode(picture)
    with pytest.raises(ImageError, match=r"hq_features \(1, 32, 64, 64\): encode the image"):
        predictor.set_embedding(replace(embedding, further={}))


def test_spilled_to_disk(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    folder, embedding = SpillFolder(tmp_path), predictor.encode(picture)
    back = folder.read(folder.write(embedding))
    folder.close()
    assert back is not None
    assert back.frame == embedding.frame
    for name, one in embedding.maps.items():
        np.testing.assert_array_equal(back.maps[name], one)


def test_encoded_together(hq_model: Path, picture: np.ndarray) -> None:
    manifest = Manifest.load(hq_model).model_copy(update={"dynamic_batch": True})
    stages = [FakeBackend(manifest, stage) for stage in Stage]
    with Predictor(*stages, manifest) as fake:
        images = [picture, picture[:, ::-1], picture[::-1]]
        together = [embedding for _, embedding in fake.encode_many(images)]
        for image, embedding in zip(images, together, strict=True):
            assert isinstance(embedding, Embedding)
            for name, one in fake.encode(image).maps.items():
                np.testing.assert_array_equal(embedding.maps[name], one)
                assert one.shape == SHAPES[name]


def test_automatic_masks_are_those_of_the_reference(
    predictor: Predictor, reference: Predictor, picture: np.ndarray
) -> None:
    options = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    ours, theirs = (
        AutomaticMaskGenerator(one, **options).generate(picture) for one in (predictor, reference)
    )
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine["segmentation"] != other["segmentation"]).mean() < 1e-3


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        ([], "maps"),
        ([{"name": "hq_features", "shape": [32, 64, 64]}], "not image_embeddings and others"),
        ([{"name": "image_embeddings", "shape": [256, 16, 8]}], "not a square"),
        ([{"name": "image_embeddings", "shape": [256, 16, 0]}], "not a map of features"),
        ([{"name": "image_embeddings", "shape": [1, 4, 4]}] * 2, "and others"),
        ([{"name": "image_embeddings", "shape": [1, 4, 4], "dtype": "int8"}], "float32"),
    ],
)
def test_wrong_maps_are_refused(
    hq_model: Path, tmp_path: Path, maps: list[object], reason: str
) -> None:
    shutil.copy(hq_model / "samtrt.json", tmp_path)
    edit_sealed(tmp_path / "samtrt.json", maps=maps)
    with pytest.raises(ManifestError, match=reason):
        Manifest.load(tmp_path)
