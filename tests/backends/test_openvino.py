"""OpenVINO: against PyTorch, its precision by name only, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samtrt.backends import BackendOptions, open_backend
from samtrt.backends import openvino as openvino_backend
from samtrt.backends.base import Backend
from samtrt.backends.in_parts import DecoderInParts
from samtrt.choices import BackendName, Stage
from samtrt.errors import BackendError
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from support.oracle import random_image


def test_gives_the_checkpoints_masks_in_float32(tiny_model: Path, tiny_checkpoint: Path) -> None:
    options = BackendOptions(checkpoint=tiny_checkpoint, threads=1)
    picture = random_image(90, 140)
    results = []
    for name in (BackendName.OPENVINO, BackendName.PYTORCH):
        with Predictor.load(tiny_model, name, options) as predictor:
            predictor.set_image(picture)
            results.append((predictor.get_image_embedding(), *predictor.predict([[70, 40]], [1])))
    (ours, masks, scores, logits), (embedding, _, expected_scores, expected) = results
    assert np.abs(ours - embedding).max() <= 1e-4
    assert np.abs(logits - expected).max() <= 1e-4
    assert np.abs(scores - expected_scores).max() <= 1e-4
    assert masks.any()


@pytest.mark.parametrize("stage", list(Stage))
def test_plugin_form_is_refused(tiny_model: Path, stage: Stage) -> None:
    manifest = Manifest.load(tiny_model).model_copy(update={"attention": "plugin"})
    with pytest.raises(BackendError, match=r"--attention plugin.*again with --attention tiled$"):
        open_backend("openvino", tiny_model, manifest, stage)


def computed_in(decoder: Backend) -> set[str]:
    assert isinstance(decoder, DecoderInParts)
    compiled = [part._request.get_compiled_model() for part in decoder._parts]
    return {one.get_property("INFERENCE_PRECISION_HINT").get_type_name() for one in compiled}


def test_default_is_float32_even_where_bfloat16_is_there(tiny_model: Path) -> None:
    manifest = Manifest.load(tiny_model)
    with open_backend("openvino", tiny_model, manifest, Stage.DECODER) as backend:
        assert computed_in(backend) == {"f32"}


def test_bfloat16_without_its_arithmetic_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "has_bf16", lambda _=None: False)
    with pytest.raises(BackendError, match=r"no bfloat16 .* use --backend openvino$"):
        Predictor.load(tiny_model, BackendName.OPENVINO_BF16)


@pytest.mark.skipif(not openvino_backend.has_bf16(), reason="this processor has no bfloat16")
def test_bfloat16_is_what_the_name_says(tiny_model: Path) -> None:
    manifest = Manifest.load(tiny_model)
    with open_backend("openvino-bf16", tiny_model, manifest, Stage.DECODER) as backend:
        assert computed_in(backend) == {"bf16"}
        assert backend.name == "openvino-bf16"


def test_other_devices_are_refused(tiny_model: Path) -> None:
    with pytest.raises(BackendError, match="runs on 'cpu', not on 'cuda'"):
        Predictor.load(tiny_model, "openvino", BackendOptions(device="cuda"))


def test_damaged_graph_is_one_line(tiny_model: Path, manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "decoder.onnx"
    path.write_bytes((tiny_model / "decoder.onnx").read_bytes()[:-1000])
    with pytest.raises(BackendError, match=r"openvino cannot load .*decoder.onnx: .") as caught:
        openvino_backend.OpenVinoBackend(
            BackendName.OPENVINO, path, manifest, Stage.DECODER, BackendOptions()
        )
    assert "\n" not in str(caught.value)


def test_graph_of_another_stage_is_refused(tiny_model: Path, manifest: Manifest) -> None:
    with pytest.raises(BackendError, match="openvino cannot load"):
        openvino_backend.OpenVinoBackend(
            BackendName.OPENVINO,
            tiny_model / "encoder.onnx",
            manifest,
            Stage.DECODER,
            BackendOptions(),
        )
