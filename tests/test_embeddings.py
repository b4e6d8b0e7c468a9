"""Embeddings come back as they were stored, and only for the image and model they belong to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from samtrt.choices import Precision, Quantization, Resize, Stage
from samtrt.embeddings import (
    is_embedding_file,
    load_embedding,
    read_embedding,
    read_embedding_info,
    save_embedding,
)
from samtrt.errors import ImageError, OutputError
from samtrt.images import read_picture
from samtrt.manifest import FileEntry, Manifest, Quantized, Source
from samtrt.predictor import Predictor
from samtrt.preparation.spec import Preparation
from samtrt.sealed import check_seal, read_tensors, write_sealed
from samtrt.types import Embedding
from support.fake_runtime import fake_predictor
from support.samples import make_manifest


def predictor_of(manifest: Manifest) -> Predictor:
    return fake_predictor(manifest)


@pytest.fixture
def predictor() -> Predictor:
    return predictor_of(make_manifest(checkpoint=Source(name="w.pth", sha256="a" * 64)))


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def embedding(predictor: Predictor, image_path: Path) -> Embedding:
    return predictor.encode(np.asarray(Image.open(image_path)))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_round_trip(
    tmp_path: Path,
    predictor: Predictor,
    image_path: Path,
    embedding: Embedding,
    precision: Precision,
) -> None:
    path = tmp_path / "out" / "photo.safetensors"
    info = save_embedding(path, embedding, predictor, image_path, precision)
    assert is_embedding_file(path)
    assert not is_embedding_file(image_path)
    assert read_embedding_info(path) == info
    assert info.original_size == (90, 120)
    back = load_embedding(path, predictor, image_path)
    assert back.frame == embedding.frame
    assert back.features.dtype == np.float32
    if precision is Precision.FP32:
        np.testing.assert_array_equal(back.features, embedding.features)
    else:
        np.testing.assert_allclose(back.features, embedding.features, rtol=2**-11, atol=1e-6)
        assert path.stat().st_size < embedding.features.nbytes * 0.6


def test_bfloat16_is_not_stored(
    tmp_path: Path, predictor: Predictor, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    with pytest.raises(OutputError, match="cannot be stored in bf16: use fp16 or fp32"):
        save_embedding(path, embedding, predictor, image_path, Precision.BF16)
    assert not path.exists()


def test_another_model_precision_or_image_is_an_error(
    tmp_path: Path, predictor: Predictor, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, predictor, image_path)
    others = (
        ({"checkpoint": Source(name="x.pth", sha256="b" * 64)}, "made by another model"),
        ({"precision": Precision.FP16}, "made by fp32 engines and these are fp16"),
        (quantized("1" * 64), r"made by fp32 engines and these are int8 dynamic, 1111"),
        (
            {"preparation": Preparation(resize=Resize.STRETCH)},
            r"of an image prepared otherwise \(longest side .*; here: stretched to a square",
        ),
    )
    for changes, message in others:
        with pytest.raises(ImageError, match=message):
            load_embedding(path, changed(predictor, changes))
    Image.new("RGB", (120, 90)).save(tmp_path / "other.png")
    with pytest.raises(ImageError, match=r"is not of .*other\.png: it was made from photo\.png"):
        load_embedding(path, predictor, tmp_path / "other.png")


def changed(predictor: Predictor, changes: dict[str, Any]) -> Predictor:
    return predictor_of(predictor.manifest.model_copy(update=changes))


def quantized(sha256: str) -> dict[str, Any]:
    """Return what makes a manifest that of an int8 encoder."""
    record = Quantized(method=Quantization.DYNAMIC, float32_layers=(), images=1, mean_iou=1.0)
    encoder = FileEntry(name="encoder.onnx", size=1, sha256=sha256)
    return {"quantized": record, "files": {Stage.ENCODER: (encoder,)}}


def test_an_int8_encoder_is_known_by_its_file(
    tmp_path: Path, predictor: Predictor, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, changed(predictor, quantized("1" * 64)), image_path)
    load_embedding(path, changed(predictor, quantized("1" * 64)))
    for other, name in (
        (changed(predictor, quantized("2" * 64)), "int8 dynamic, 2222"),
        (predictor, "fp32"),
    ):
        with pytest.raises(ImageError, match=f"made by int8 .* and these are {name}"):
            load_embedding(path, other)


def test_an_engine_is_known_by_what_it_computes_in(
    tmp_path: Path, predictor: Predictor, image_path: Path, embedding: Embedding
) -> None:
    """The directory is fp32 and its engine was built in fp16, as by `samtrt build`."""
    half = predictor_of(predictor.manifest)
    half.encoder.precision = "fp16"
    save_embedding(tmp_path / "half.safetensors", embedding, half, image_path)
    with pytest.raises(ImageError, match="made by fp16 engines and these are fp32"):
        load_embedding(tmp_path / "half.safetensors", predictor)


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_file_of_another_format_is_refused(
    tmp_path: Path, predictor: Predictor, version: int
) -> None:
    path = tmp_path / "old.safetensors"
    tensor = {"image_embeddings": np.zeros(3, dtype=np.float32)}
    save_file(tensor, path, {"format": f"samtrt-embedding-{version}"})
    with pytest.raises(ImageError, match=r"written by an older or newer samtrt.* samtrt embed"):
        load_embedding(path, predictor)


def test_no_change_of_a_byte_goes_unseen(
    tmp_path: Path, predictor: Predictor, image_path: Path, embedding: Embedding
) -> None:
    """Every byte of the header, such as a digit of the width, and some of the numbers; and cuts."""
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, predictor, image_path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert b'"original_width":"120"' in whole[:header]
    places = (*range(header), *range(header, len(whole), len(whole) // 50))
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(ImageError, match="samtrt embed"):
            read_embedding_info(path)
    for length in (0, 7, 8, 100, header - 1, header, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError, match="samtrt embed"):
            load_embedding(path, predictor)
    path.write_bytes(whole + b"x")
    with pytest.raises(ImageError, match="samtrt embed"):
        load_embedding(path, predictor)
    path.write_bytes(whole)
    load_embedding(path, predictor)


def test_what_was_decoded_is_what_is_named(
    tmp_path: Path, predictor: Predictor, image_path: Path
) -> None:
    """An image that is replaced between reading and storing is not the one that was stored."""
    picture = read_picture(image_path)
    Image.new("RGB", (120, 90)).save(image_path)
    path = tmp_path / "photo.safetensors"
    embedding = predictor.encode(picture.pixels)
    save_embedding(path, embedding, predictor, image_path, image_sha256=picture.sha256)
    with pytest.raises(ImageError, match=r"is not of .*photo\.png"):
        load_embedding(path, predictor, image_path)
    stored = read_embedding(path, predictor)
    assert stored.info.image_sha256 == picture.sha256
    assert stored.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "changes", [{"original_width": "0"}, {"original_width": "x"}, {"more": "1"}, {"model": None}]
)
def test_nonsense_with_a_checksum_is_told_in_a_line(
    tmp_path: Path,
    predictor: Predictor,
    image_path: Path,
    embedding: Embedding,
    changes: dict[str, str | None],
) -> None:
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, predictor, image_path)
    tensors, metadata = read_tensors(path)
    said = {**check_seal(tensors, metadata), **changes}
    write_sealed(path, tensors, {name: text for name, text in said.items() if text is not None})
    with pytest.raises(ImageError, match="damaged or not an embedding") as caught:
        load_embedding(path, predictor)
    assert "\n" not in str(caught.value)


def test_damage_is_found(
    tmp_path: Path, predictor: Predictor, image_path: Path, embedding: Embedding
) -> None:
    path = tmp_path / "photo.safetensors"
    save_embedding(path, embedding, predictor, image_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ImageError, match="is damaged"):
        load_embedding(path, predictor)
    for part in (b"", whole[:20], whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(ImageError, match="not an embedding"):
            load_embedding(path, predictor)
    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)
    with pytest.raises(ImageError, match="is not an embedding"):
        load_embedding(path, predictor)
    with pytest.raises(ImageError, match="no embedding at"):
        load_embedding(tmp_path / "none.safetensors", predictor)


def test_values_beyond_fp16_are_refused_and_leave_no_file(
    tmp_path: Path, predictor: Predictor, image_path: Path
) -> None:
    huge = Embedding(
        np.full((1, 256, 16, 16), 1e6, dtype=np.float32), predictor.manifest.frame((90, 120))
    )
    path = tmp_path / "photo.safetensors"
    with pytest.raises(OutputError, match="store it as fp32"):
        save_embedding(path, huge, predictor, image_path)
    assert not path.exists()
    save_embedding(path, huge, predictor, image_path, Precision.FP32)
    assert load_embedding(path, predictor).features.max() == 1e6
