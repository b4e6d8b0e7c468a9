"""Quantizing: what becomes int8, what is left out by measurement, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from samtrt.choices import Precision, Quantization
from samtrt.errors import ExportError
from samtrt.export import quantize as quantizing
from samtrt.export.quantize import QuantizeOptions, quantize_model
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.verification.compare import thresholds_for
from support.oracle import random_image

IMAGES = {"a": random_image(120, 200), "b": random_image(200, 90, seed=1)}
LAYERS = [
    f"blocks.{block}.{layer}"
    for block in range(4)
    for layer in ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")
]


def int8_matrices(directory: Path) -> int:
    graph = onnx.load(directory / "encoder.onnx").graph
    return sum(
        tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
        for tensor in graph.initializer
    )


@pytest.mark.parametrize("method", list(Quantization))
def test_every_layer_but_those_kept_becomes_int8(
    method: Quantization, tiny_model: Path, tmp_path: Path
) -> None:
    keep = ("blocks.3.mlp.lin2", "blocks.0.attn.qkv")
    output = tmp_path / "int8"
    manifest = quantize_model(tiny_model, output, IMAGES, QuantizeOptions(method, keep=keep))
    assert sorted(path.name for path in output.iterdir()) == [
        "decoder.onnx",
        "encoder.onnx",
        "samtrt.json",
    ]
    assert int8_matrices(output) == len(LAYERS) - 2
    assert manifest.quantized is not None
    assert manifest.quantized.method is method
    assert manifest.quantized.float32_layers == keep[::-1], "in the encoder's order"
    assert manifest.quantized.images == 2
    assert (output / "decoder.onnx").read_bytes() == (tiny_model / "decoder.onnx").read_bytes()
    assert Manifest.load(output) == manifest
    with Predictor.load(output) as int8, Predictor.load(tiny_model) as float32:
        got, expected = (one.encode(IMAGES["a"]).features for one in (int8, float32))
        assert int8.precision == f"int8 {method.value}"
        assert thresholds_for(int8) is quantizing.REDUCED
        assert thresholds_for(float32) is not quantizing.REDUCED
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < 0.2, "it is not the float32 model, and close to it"


@pytest.mark.long
def test_layers_that_lose_most_are_left_out(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measured order decides, and only as many are left out as the limit asks for."""
    tried: list[int] = []
    steps: list[str] = []
    plain = quantizing._Encoder.compare

    def losses(_: object, layers: list[str]) -> float:
        return {"blocks.1.mlp.lin2": 3.0, "blocks.2.attn.proj": 2.0}.get(layers[0], 1.0)

    def compare(self: quantizing._Encoder, layers: list[str]) -> object:
        tried.append(len(layers))
        report = plain(self, layers)
        worst = {"blocks.1.mlp.lin2", "blocks.2.attn.proj"} & set(layers)
        return type("Report", (), {"ious": (0.1,)}) if worst else report

    monkeypatch.setattr(quantizing._Encoder, "loss", losses)
    monkeypatch.setattr(quantizing._Encoder, "compare", compare)
    options = QuantizeOptions(min_iou=0.5)
    manifest = quantize_model(tiny_model, tmp_path / "int8", IMAGES, options, steps.append)
    assert manifest.quantized is not None
    assert manifest.quantized.float32_layers == ("blocks.1.mlp.lin2", "blocks.2.attn.proj")
    assert tried == [16, 15, 14, 14]
    assert sum("alone loses" in step for step in steps) == len(LAYERS)


def test_loss_is_measured_layer_by_layer(tiny_model: Path, tmp_path: Path) -> None:
    with Predictor.load(tiny_model) as float32:
        graph = tiny_model / "encoder.onnx"
        encoder = quantizing._Encoder(graph, tmp_path, float32, IMAGES, Quantization.DYNAMIC)
        assert list(encoder.layers) == LAYERS
        one, all_of_them = encoder.loss(LAYERS[:1]), encoder.loss(LAYERS)
    assert 0 < one < all_of_them


@pytest.mark.long
def test_limit_that_cannot_be_reached(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "_LEAVE_OUT", (0.0, 0.5))
    with pytest.raises(ExportError, match=r"mean IoU is 0\.\d+ .* less than 1.1; allow less"):
        quantize_model(
            tiny_model, tmp_path / "int8", {"a": IMAGES["a"]}, QuantizeOptions(min_iou=1.1)
        )
    assert list(tmp_path.iterdir()) == []


def test_refuses_what_it_cannot_quantize(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"needs images .* --calib"):
        quantize_model(tiny_model, tmp_path / "int8", {})
    with pytest.raises(ExportError, match=r"no layer neck; it has blocks.0.attn.qkv to blocks.3"):
        quantize_model(tiny_model, tmp_path / "int8", IMAGES, QuantizeOptions(keep=("neck",)))
    with pytest.raises(ExportError, match="nothing to quantize"):
        quantize_model(tiny_model, tmp_path / "int8", IMAGES, QuantizeOptions(keep=tuple(LAYERS)))
    half = Manifest.load(tiny_model).model_copy(update={"precision": Precision.FP16})
    (tmp_path / "half").mkdir()
    half.save(tmp_path / "half")
    with pytest.raises(ExportError, match="is not a float32 model"):
        quantize_model(tmp_path / "half", tmp_path / "int8", IMAGES)
    plugin = Manifest.load(tiny_model).model_copy(update={"attention": "plugin"})
    (tmp_path / "plugin").mkdir()
    plugin.save(tmp_path / "plugin")
    with pytest.raises(ExportError, match=r"exported with --attention plugin.* --attention add"):
        quantize_model(tmp_path / "plugin", tmp_path / "int8", IMAGES)
    assert not (tmp_path / "int8").exists()
