"""The manifest: round trip, and every way in which it and its files can disagree."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from samtrt.choices import Stage
from samtrt.errors import ManifestError
from samtrt.manifest import FORMAT, MANIFEST_NAME, FileEntry, Manifest
from samtrt.preparation.spec import OFFICIAL
from samtrt.sealed import check_json, sealed_json
from support.samples import edit_sealed


def edit(directory: Path, **changes: object) -> None:
    edit_sealed(directory / MANIFEST_NAME, **changes)


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
        ({"format": 99}, "format 99 and this samtrt reads up to 4; update samtrt"),
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


def older(directory: Path, **changes: object) -> dict[str, object]:
    """Return what a manifest said before it had a checksum and named what flows."""
    said = check_json(json.loads((directory / MANIFEST_NAME).read_text()))
    for name in ("maps", "mask_choice", "hq_token_only", "family", "input_size"):
        del said[name]
    return {**said, "patch_size": 16, "embed_channels": 256, **changes}


def test_format_1_had_the_official_preparation(fake_directory: Path) -> None:
    path = fake_directory / MANIFEST_NAME
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    data = older(fake_directory, format=1, pixel_mean=mean, pixel_std=std)
    del data["preparation"]
    path.write_text(json.dumps(data))
    manifest = Manifest.load(fake_directory)
    assert manifest.preparation == OFFICIAL
    assert manifest.format == FORMAT
    path.write_text(json.dumps({**data, "pixel_mean": [1.5, 2, 3]}))
    assert Manifest.load(fake_directory).preparation.mean == (1.5, 2, 3)
    path.write_text(json.dumps({**data, "format": 2}))
    with pytest.raises(ManifestError, match="preparation"):
        Manifest.load(fake_directory)


def test_format_2_had_no_checksum(fake_directory: Path) -> None:
    path = fake_directory / MANIFEST_NAME
    manifest = Manifest.load(fake_directory)
    path.write_text(json.dumps(older(fake_directory, format=2)))
    assert Manifest.load(fake_directory) == manifest


def test_no_change_of_a_byte_goes_unseen(fake_directory: Path) -> None:
    """Every byte but white space, which says nothing."""
    path = fake_directory / MANIFEST_NAME
    whole = path.read_bytes()
    for place, byte in enumerate(whole):
        if chr(byte).isspace():
            continue
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 7
        path.write_bytes(changed)
        with pytest.raises(ManifestError, match=r"export the model again|update samtrt"):
            Manifest.load(fake_directory)
    data = json.loads(whole)
    del data["checksum"]
    for version in (3, "3", None, True, 2.5):
        path.write_text(json.dumps({**data, "format": version}))
        with pytest.raises(ManifestError):
            Manifest.load(fake_directory)


def graph_with_weights_in(directory: Path, place: str) -> None:
    """Make the encoder a graph whose tensor is somewhere in it and lies in `encoder.weights`."""
    helper = onnx.helper
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=1)
    for key, value in (("location", "encoder.weights"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    inner = helper.make_graph([constant], "inner", [], [])
    either = helper.make_node("If", ["x"], [], then_branch=inner, else_branch=inner)
    sparse = onnx.SparseTensorProto(values=tensor, indices=helper.make_tensor("i", 7, [0], []))
    nodes = {"node": [constant], "inside": [either]}.get(place, [])
    graph = helper.make_graph(
        *(nodes, "g", [], []), initializer=[tensor] if place == "initializer" else []
    )
    if place == "sparse":
        graph.sparse_initializer.append(sparse)
    model = helper.make_model(graph)
    if place == "function":
        model.functions.append(onnx.FunctionProto(name="f", domain="d", node=[constant]))
    path = directory / "encoder.onnx"
    path.write_bytes(model.SerializeToString())
    (directory / "encoder.weights").write_bytes(bytes(8))
    manifest = Manifest.load(directory)
    files = {**manifest.files, Stage.ENCODER: (FileEntry.of(path),)}
    manifest.model_copy(update={"files": files}).save(directory)


@pytest.mark.parametrize("place", ["initializer", "node", "inside", "sparse", "function"])
def test_weights_that_nothing_vouches_for(fake_directory: Path, place: str) -> None:
    graph_with_weights_in(fake_directory, place)
    manifest = Manifest.load(fake_directory)
    with pytest.raises(ManifestError, match=r"takes weights from encoder\.weights, which samtrt"):
        manifest.path_of(fake_directory, Stage.ENCODER)
    entries = (*manifest.files[Stage.ENCODER], FileEntry.of(fake_directory / "encoder.weights"))
    listed = manifest.model_copy(update={"files": {Stage.ENCODER: entries}})
    assert listed.path_of(fake_directory, Stage.ENCODER).name == "encoder.onnx"


def test_files_that_change_while_they_are_read(fake_directory: Path) -> None:
    manifest = Manifest.load(fake_directory)
    with manifest.checked(fake_directory, Stage.DECODER) as path:
        content = path.read_bytes()
    for change in (path.unlink, lambda: path.write_bytes(content)):
        with (
            pytest.raises(ManifestError, match=r"decoder\.onnx was changed while it was read"),
            manifest.checked(fake_directory, Stage.DECODER),
        ):
            change()
        path.write_bytes(content)


def test_format_3_had_one_map(fake_directory: Path) -> None:
    path = fake_directory / MANIFEST_NAME
    now, data = Manifest.load(fake_directory), older(fake_directory, format=3)
    path.write_text(sealed_json(data))
    assert Manifest.load(fake_directory) == now
    for wrong in ({"patch_size": 0}, {"patch_size": "16"}, {"embed_channels": None}):
        path.write_text(sealed_json({**data, **wrong}))
        with pytest.raises(ManifestError, match="export the model again"):
            Manifest.load(fake_directory)
