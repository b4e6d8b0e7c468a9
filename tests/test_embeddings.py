"""Embeddings come back as they were stored, and only for the image and model they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from samtrt.backends.fake import FakeBackend
from samtrt.choices import Precision, Quantization, Stage
from samtrt.embeddings import (
    is_embedding_file,
    load_embedding,
    read_embedding_info,
    save_embedding,
)
from samtrt.errors import ImageError, OutputError
from samtrt.manifest import FileEntry, Manifest, Quantized, Source
from samtrt.predictor import Predictor
from samtrt.types import Embedding


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        model="vit_t",
        image_size=256,
        patch_size=16,
        embed_channels=256,
        precision=Precision.FP32,
        opset=17,
        simplified=True,
        dynamic_batch=False,
        attention="auto",
        checkpoint=Source(name="w.pth", sha256="a" * 64),
        files={},
        versions={},
    )


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def embedding(manifest: Manifest, image_path: Path) -> Embedding:
    stages = [FakeBackend(manifest, stage) for stage in Stage]
    return Predictor(*stages, manifest).encode(np.asarray(Image.open(image_path)))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_round_trip(
    tmp_path: Path,
    manifest: Manifest,
    image_path: Path,
    embedding: Embedding,
    precision: Precision,
) -> None:
    path = tmp_path / "out" / "photo.safetensors"
    info = save_embedding(path, embedding, manifest, image_path, precision)
    assert is_embedding_file(path)
    assert not is_embedding_file(image_path)
    assert read_embedding_info(path) == info
    assert info.original_size == (90, 120)
    back = load_embedding(path, manifest, image_path)
    assert back.original_size == embedding.original_size
    assert back.input_size == embedding.input_size
    assert back.features.dtype == np.float32
    if precision is Precision.FP32:
        np.testing.assert_array_equal(back.features, embedding.features)
    else:
        np.testing.assert_allclose(back.features, embedding.features, rtol=2**-11, atol=1e-6)
        assert path.stat().st_size < embedding.features.nbytes * 0.6


def test_bfloat16_is_not_stored(
    tmp_path: Path, manifest: Manifest, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    with pytest.raises(OutputError, match="cannot be stored in bf16: use fp16 or fp32"):
        save_embedding(path, embedding, manifest, image_path, Precision.BF16)
    assert not path.exists()


def test_another_model_precision_or_image_is_an_error(
    tmp_path: Path, manifest: Manifest, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, manifest, image_path)
    other = manifest.model_copy(update={"checkpoint": Source(name="x.pth", sha256="b" * 64)})
    with pytest.raises(ImageError, match="made by another model"):
        load_embedding(path, other)
    with pytest.raises(ImageError, match="made by fp32 engines and these are fp16"):
        load_embedding(path, manifest.model_copy(update={"precision": Precision.FP16}))
    int8 = quantized(manifest, "1" * 64)
    with pytest.raises(
        ImageError, match=r"made by fp32 engines and these are int8 \(dynamic, 1111"
    ):
        load_embedding(path, int8)
    Image.new("RGB", (120, 90)).save(tmp_path / "other.png")
    with pytest.raises(ImageError, match=r"is not of .*other\.png: it was made from photo\.png"):
        load_embedding(path, manifest, tmp_path / "other.png")


def quantized(manifest: Manifest, sha256: str) -> Manifest:
    """Return the same model with an int8 encoder."""
    record = Quantized(method=Quantization.DYNAMIC, float32_layers=(), images=1, mean_iou=1.0)
    encoder = FileEntry(name="encoder.onnx", size=1, sha256=sha256)
    files = {Stage.ENCODER: (encoder,)}
    return manifest.model_copy(update={"quantized": record, "files": files})


def test_an_int8_encoder_is_known_by_its_file(
    tmp_path: Path, manifest: Manifest, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, quantized(manifest, "1" * 64), image_path)
    load_embedding(path, quantized(manifest, "1" * 64))
    for other, name in ((quantized(manifest, "2" * 64), "int8 .dynamic, 2222"), (manifest, "fp32")):
        with pytest.raises(ImageError, match=f"made by int8 .* and these are {name}"):
            load_embedding(path, other)


def test_damage_is_found(
    tmp_path: Path, manifest: Manifest, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, manifest, image_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ImageError, match="is damaged"):
        load_embedding(path, manifest)
    for part in (b"", whole[:20], whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(ImageError, match="damaged or not an embedding"):
            load_embedding(path, manifest)
    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)
    with pytest.raises(ImageError, match="is not an embedding"):
        load_embedding(path, manifest)
    with pytest.raises(ImageError, match="no embedding at"):
        load_embedding(tmp_path / "none.safetensors", manifest)


def test_values_beyond_fp16_are_refused_and_leave_no_file(
    tmp_path: Path, manifest: Manifest, image_path: Path
) -> None:
    huge = Embedding(np.full((1, 256, 16, 16), 1e6, dtype=np.float32), (90, 120), (192, 256))
    path = tmp_path / "photo.safetensors"
    with pytest.raises(OutputError, match="store it as fp32"):
        save_embedding(path, huge, manifest, image_path)
    assert not path.exists()
    save_embedding(path, huge, manifest, image_path, Precision.FP32)
    assert load_embedding(path, manifest).features.max() == 1e6
