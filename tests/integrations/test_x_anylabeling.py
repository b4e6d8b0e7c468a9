"""X-AnyLabeling's own code runs the graphs that we write for it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import yaml

from samtrt import Manifest, assets, read_image
from samtrt.choices import Stage
from samtrt.errors import ExportError, OutputError
from support.plugins import INTEGRATIONS, load
from support.samples import make_manifest

pytest.importorskip("onnx")
plugin = load(INTEGRATIONS / "x_anylabeling" / "convert.py")


@pytest.fixture
def runner() -> ModuleType:
    """The module of X-AnyLabeling that runs `segment_anything` models."""
    try:
        files = distribution("x-anylabeling-cvhub").files or []
    except PackageNotFoundError:
        pytest.skip("x-anylabeling-cvhub is not installed")
    (path,) = [one for one in files if one.name == "sam_onnx.py"]
    return load(Path(str(path.locate())))


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("x") / "out"
    plugin.convert(tiny_model, out)
    return out


@pytest.fixture
def picture() -> np.ndarray:
    """A picture of the size that X-AnyLabeling makes of all."""
    photo = read_image(assets.DEMO_PHOTOGRAPH)
    return cv2.resize(photo, (1024, 684), interpolation=cv2.INTER_LINEAR)


def paths(made: Path) -> list[str]:
    told = yaml.safe_load((made / "model.yaml").read_text())
    assert told["type"] == "segment_anything"
    assert {"input_size", "max_width", "max_height", "name", "display_name"} <= set(told)
    return [str(made / told[f"{one}_model_path"]) for one in ("encoder", "decoder")]


PROMPTS = [
    [{"type": "point", "data": [500, 300], "label": 1}],
    [
        {"type": "point", "data": [500, 300], "label": 1},
        {"type": "point", "data": [200, 500], "label": 0},
    ],
    [{"type": "rectangle", "data": [200, 100, 800, 600]}],
]


def by_hand(directory: Path, picture: np.ndarray, marks: list[dict[str, Any]]) -> np.ndarray:
    """Return the logits [684, 1024] that a model directory's own graphs give."""
    manifest = Manifest.load(directory)
    sessions = {stage: session(directory / f"{stage.value}.onnx") for stage in Stage}
    side = manifest.image_size
    small = cv2.resize(picture.astype(np.float32), (side, 684 * side // 1024))
    square = np.zeros((1, 3, side, side), np.float32)
    told = manifest.preparation
    values = (small - np.float32(told.mean)) / np.float32(told.std)
    square[0, :, : len(small)] = values.transpose(2, 0, 1)
    (embedding,) = sessions[Stage.ENCODER].run(None, {"images": square})
    points, labels = [], []
    for mark in marks:
        points += np.reshape(mark["data"], (-1, 2)).tolist()
        labels += [2, 3] if mark["type"] == "rectangle" else [mark["label"]]
    feeds = {
        "image_embeddings": embedding,
        "point_coords": np.array([[*points, [0, 0]]], np.float32) * side / 1024,
        "point_labels": np.array([[*labels, -1]], np.float32),
        "mask_input": np.zeros((1, 1, manifest.mask_size, manifest.mask_size), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }
    low, scores = sessions[Stage.DECODER].run(["low_res_masks", "iou_predictions"], feeds)
    best = 1 + scores[0, 1:].argmax() if len(labels) == 1 else 0
    return cv2.resize(low[0, best], (1024, 1024))[:684]


def session(path: Path | str) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("marks", PROMPTS)
def test_x_anylabelings_masks_are_those_of_the_graphs(
    runner: ModuleType,
    made: Path,
    tiny_model: Path,
    picture: np.ndarray,
    marks: list[dict[str, Any]],
) -> None:
    model = runner.SegmentAnythingONNX(*paths(made))
    masks = model.predict_masks(model.encode(picture), marks)
    assert masks.shape == (1, 1, 684, 1024)
    expected = by_hand(tiny_model, picture, marks)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(masks[0, 0] / scale, expected / scale, atol=1e-3)


def test_the_borders_are_what_x_anylabeling_gives(made: Path) -> None:
    encoder, decoder = map(session, paths(made))
    (image,) = encoder.get_inputs()
    assert (image.shape, image.type) == ([684, 1024, 3], "tensor(float)")
    assert [one.name for one in decoder.get_inputs()] == [
        *("image_embeddings", "point_coords", "point_labels"),
        *("mask_input", "has_mask_input", "orig_im_size"),
    ]
    assert decoder.get_outputs()[0].shape == [1, 1, 684, 1024]


def test_what_cannot_be_run_there_is_refused(tiny_model: Path, made: Path) -> None:
    with pytest.raises(OutputError, match="there already"):
        plugin.convert(tiny_model, made)
    maps = (
        {"name": "image_embeddings", "shape": (256, 16, 16)},
        {"name": "hq_features", "shape": (32, 64, 64)},
    )
    for manifest in (make_manifest(maps=maps), make_manifest(mask_threshold=0.5)):
        with pytest.raises(ExportError, match="labelme"):
            plugin.check(manifest)
    plugin.check(make_manifest())
