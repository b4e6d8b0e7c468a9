"""`samtrt info` of this machine and of model directories, engines included."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

import samtrt
from samtrt.choices import BackendName, Precision, Stage, Target
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.engine_files import engine_path, onnx_hashes, record_path
from samtrt.tensorrt.record import BuildFlags, EngineRecord, Profile
from support.command_line import Run
from support.samples import make_manifest


def add_engine(directory: Path) -> Path:
    """Put a decoder engine with its record and plugin library beside a model; return its path."""
    path = engine_path(directory, Stage.DECODER, Target.TENSORRT)
    path.write_bytes(bytes(2_000_000))
    plugin = directory / "libsamtrt_plugins.so"
    plugin.write_bytes(b"library")
    record = EngineRecord(
        stage=Stage.DECODER,
        target=Target.TENSORRT,
        library_version="10.3.0",
        gpu="NVIDIA H100 80GB HBM3",
        compute_capabilities=("9.0",),
        precision=Precision.FP16,
        tf32=False,
        profiles={
            "point_labels": Profile(min=(1, 0), opt=(1, 5), max=(64, 20)),
            "image_embeddings": Profile(**dict.fromkeys(("min", "opt", "max"), (1, 256, 16, 16))),
        },
        flags=BuildFlags(strongly_typed=True),
        onnx=onnx_hashes(Manifest.load(directory), Stage.DECODER),
        file=FileEntry.of(path),
        plugin=FileEntry.of(plugin),
        build_seconds=1.5,
        versions={"samtrt": "test"},
    )
    record_path(directory, Stage.DECODER, Target.TENSORRT).write_text(record.to_json())
    return path


def test_this_machine(run: Run) -> None:
    done = run("info")
    assert done.code == 0
    for word in ("onnxruntime", "pytorch", "samtrt", samtrt.__version__, torch.__version__):
        assert word in done.out
    survey = json.loads(run("info", "--json", "-").out)
    found = {backend.pop("name"): backend for backend in survey["backends"]}
    assert found.keys() == set(BackendName)
    for name in ("onnxruntime", "openvino", "pytorch"):
        assert found[name] == {"works": True, "devices": ["cpu"], "note": found[name]["note"]}
    for backend in found.values():
        assert backend["note"]
        assert bool(backend["devices"]) == backend["works"]


def test_a_model(run: Run, tiny_model: Path, fake_directory: Path) -> None:
    done = run("info", tiny_model)
    assert done.code == 0
    assert "vit_t (vit), 256 pixels" in done.out
    assert "image_embeddings 256x16x16: 0.2 MiB an image" in done.out
    assert "sha256 checked" in done.out
    described = json.loads(run("info", tiny_model, "--json", "-").out)
    assert described["opset"] == 20
    assert described["engines"] == []
    (fake_directory / "decoder.onnx").write_bytes(b"changed")
    done = run("info", fake_directory)
    assert done.code == 2
    assert "decoder.onnx has 7 bytes and samtrt.json says 11" in done.err


def test_engines_of_a_model(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    add_engine(model)
    out = run("info", model).out
    for text in (
        "tensorrt decoder",
        "fp16, 2.0 MB, sha256 checked",
        "for NVIDIA H100 80GB HBM3 of compute capability 9.0, tensorrt 10.3.0",
        "plugin library libsamtrt_plugins.so",
        "point_labels 1 x 0 to 64 x 20, best 1 x 5",
        "image_embeddings 1 x 256 x 16 x 16",
    ):
        assert text in out
    (engine,) = json.loads(run("info", model, "--json", "-").out)["engines"]
    assert engine["stage"] == "decoder"
    assert engine["profiles"]["point_labels"]["max"] == [64, 20]


def test_a_damaged_engine_is_told_in_a_line(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    add_engine(model).write_bytes(b"short")
    done = run("info", model)
    assert done.code == 0
    assert "has 5 bytes and its record says 2000000" in "".join(done.out.split("\n"))
    (engine,) = json.loads(run("info", model, "--json", "-").out)["engines"]
    assert engine.keys() == {"target", "stage", "error"}
    assert "samtrt build" in engine["error"]


def test_json_goes_to_a_file_of_its_own(run: Run, fake_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    for _ in range(2):  # the second time it replaces its own
        done = run("info", fake_directory, "--json", path)
        assert done.code == 0
        assert "sha256 checked" in done.out
        assert json.loads(path.read_text())["model"] == "vit_t"
    path.write_text("notes")
    done = run("info", fake_directory, "--json", path)
    assert done.code == 2
    assert "was not written by samtrt" in done.err
    assert path.read_text() == "notes"
    assert run("info", fake_directory, "--json", path, "--force").code == 0


def test_what_a_family_differs_in_is_told(run: Run, tmp_path: Path) -> None:
    maps = (
        {"name": "image_embeddings", "shape": (256, 64, 64)},
        {"name": "hq_features", "shape": (32, 256, 256)},
    )
    facts = {"maps": maps, "mask_choice": "best", "image_size": 1024, "input_size": 512}
    make_manifest(**facts, hq_token_only=True).save(tmp_path)
    done = run("info", tmp_path)
    assert done.code == 0, done.err
    assert "1024 pixels, encoded at 512" in done.out
    assert "of a SAM-HQ: its own alone; the best-scored of three" in done.out
    assert "hq_features 32x256x256: 12.0 MiB an image" in done.out
