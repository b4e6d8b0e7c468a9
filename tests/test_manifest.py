"""The manifest: round trip, and every way in which it and its files can disagree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samtrt.choices import Stage
from samtrt.errors import ManifestError
from samtrt.manifest import MANIFEST_NAME, Manifest
from samtrt.preparation.spec import OFFICIAL


def edit(directory: Path, **changes: object) -> None:
    path = directory / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip(fake_directory: Path) -> None:
    manifest = Manifest.load(fake_directory)
    manifest.save(fake_directory)
    assert Manifest.load(fake_directory) == manifest
    assert manifest.path_of(fake_directory, Stage.DECODER) == fake_directory / "decoder.onnx"
    assert (manifest.embedding_size, manifest.mask_size) == (16, 64)


def test_missing_directory_and_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no model directory .* samtrt export"):
        Manifest.load(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"has no samtrt.json; make it with: samtrt export"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_damaged_manifest(fake_directory: Path, text: str) -> None:
    (fake_directory / MANIFEST_NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ManifestError, match="export the model again"):
        Manifest.load(fake_directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99 and this samtrt reads up to 2; update samtrt"),
        ({"image_size": "wide"}, "image_size"),
        ({"precision": "fp4"}, "precision"),
        ({"surprise": 1}, "surprise"),
        ({"preparation": {"scale": "0..1"}}, "preparation: .* is of images in 0..255"),
        (
            {"files": {"encoder": [{"name": "../x", "size": 1, "sha256": "0" * 64}]}},
            "leaves the model directory",
        ),
    ],
)
def test_invalid_values_are_named(
    fake_directory: Path, changes: dict[str, object], message: str
) -> None:
    edit(fake_directory, **changes)
    with pytest.raises(ManifestError, match=message):
        Manifest.load(fake_directory)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing, though samtrt.json names it"),
        (b"not a gra", r"has 9 bytes and samtrt.json says 11: the file is truncated"),
        (b"not a GRAPH", r"is not the file that samtrt.json describes \(sha256 differs\)"),
    ],
)
def test_files_that_disagree(fake_directory: Path, content: bytes | None, message: str) -> None:
    path = fake_directory / "encoder.onnx"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    manifest = Manifest.load(fake_directory)
    assert manifest.path_of(fake_directory, Stage.DECODER).name == "decoder.onnx"
    with pytest.raises(ManifestError, match=message):
        manifest.path_of(fake_directory, Stage.ENCODER)


def test_stage_that_the_manifest_does_not_name(fake_directory: Path) -> None:
    edit(fake_directory, files={})
    with pytest.raises(ManifestError, match="names no encoder"):
        Manifest.load(fake_directory).path_of(fake_directory, Stage.ENCODER)


def test_format_1_had_the_official_preparation(fake_directory: Path) -> None:
    path = fake_directory / MANIFEST_NAME
    data = json.loads(path.read_text())
    del data["preparation"]
    older = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}
    path.write_text(json.dumps({**data, **older, "format": 1}))
    manifest = Manifest.load(fake_directory)
    assert manifest.preparation == OFFICIAL
    assert manifest.format == 2
    path.write_text(json.dumps({**data, **older, "format": 1, "pixel_mean": [1.5, 2, 3]}))
    assert Manifest.load(fake_directory).preparation.mean == (1.5, 2, 3)
    path.write_text(json.dumps(data))
    with pytest.raises(ManifestError, match="preparation"):
        Manifest.load(fake_directory)
