"""`samtrt build`: what it prints, what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from samtrt.build import trtexec
from samtrt.choices import EVERY_STAGE, Precision, Stage, Target
from samtrt.manifest import Manifest
from samtrt.tensorrt.engine_files import load_engine_record
from support.command_line import Run, parsed
from support.rtx_cases import needs_rtx

RTX = ("--target", "tensorrt-rtx")


@needs_rtx
def test_build(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    done = run(
        *("build", model, *RTX, "--precision", "fp16", "--prompts", "1:4:16", "--points", "2"),
        *("--compute-capability", "8.6", "--compute-capability", "8.9", "--stage", "decoder"),
    )
    assert done.code == 0, done.err
    assert f"{model / 'decoder.tensorrt-rtx.engine'}  " in done.out
    assert "MB, fp16, " in done.out
    assert "compute capability 8.6, 8.9" in done.out
    assert done.out.splitlines()[-1] == f"Next: samtrt bench {model} --backend tensorrt-rtx"
    assert parsed(done.out) == {"directory": model}
    assert not (model / "encoder.tensorrt-rtx.engine").exists()
    record = load_engine_record(model, Manifest.load(model), Stage.DECODER, Target.TENSORRT_RTX)
    assert record.precision is Precision.FP16
    assert record.profiles["point_labels"].model_dump() == {
        "min": (1, 2),
        "opt": (4, 2),
        "max": (16, 2),
    }


@needs_rtx
def test_explain_builds_nothing(run: Run, tiny_model: Path) -> None:
    before = {path.name for path in tiny_model.iterdir()}
    done = run("build", tiny_model, *RTX, "--compute-capability", "8.6", "--explain")
    assert done.code == 0, done.err
    version, encoder, decoder = done.out.splitlines()
    assert version.startswith("# TensorRT-RTX 1.7")
    assert encoder.startswith(f"tensorrt_rtx --onnx={tiny_model / 'encoder.onnx'} --saveEngine=")
    assert "Shapes" not in encoder, "its only shape is fixed"
    assert "--optShapes=point_coords:1x5x2,point_labels:1x5,mask_input:1x1x64x64," in decoder
    assert {"--noTF32", "--computeCapabilities=86", "--skipInference"} <= set(decoder.split())
    assert {path.name for path in tiny_model.iterdir()} == before

    done = run("build", tiny_model, *RTX, "--precision", "bf16", "--stage", "encoder", "--explain")
    _, first, command = done.out.splitlines()
    assert first.endswith(f"samtrt export CHECKPOINT -o {tiny_model} --precision bf16")
    assert "bf16" not in command, "the graph says it"


def test_explain_names_every_graph(run: Run, sam2_model: Path) -> None:
    done = run("build", sam2_model, "--target", "tensorrt", "--explain", "--objects", "1:8:16")
    assert done.code == 0, done.err
    commands = done.out.splitlines()[1:]
    assert len(commands) == len(EVERY_STAGE)
    attention = next(line for line in commands if "memory_attention.onnx" in line)
    assert "--optShapes=memories:8x7x64x8x8," in attention
    assert "--maxShapes=memories:16x10x64x8x8," in attention


def test_every_target_has_its_tool() -> None:
    assert set(trtexec._TOOLS) == set(Target)


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--points", "3:2:1"], "--points must be MIN:OPT:MAX in rising order"),
        (["--batch", "1:4:8"], "--dynamic-batch"),
        (["--compute-capability", "9.0"], "does not compile for compute capability '9.0'"),
        (["--workspace", "0.001", "--stage", "decoder"], "out of memory; allow more"),
    ],
)
def test_refused(
    run: Run, tiny_model: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    done = run("build", model, *RTX, *arguments)
    assert done.code == 2
    assert "samtrt: error: " in done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert not list(model.glob("*.engine"))


def test_without_tensorrt(run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from samtrt.tensorrt.api import load_api

    load_api.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    done = run("build", tiny_model, "--target", "tensorrt")
    assert done.code == 2
    assert "pip install 'samtrt[tensorrt]'" in done.err


@needs_rtx
def test_no_model_directory(run: Run, tmp_path: Path) -> None:
    done = run("build", tmp_path / "nothing", *RTX)
    assert done.code == 2
    assert "make one with: samtrt export" in done.err


@pytest.mark.parametrize("device", ["cpu", "0", "cuda:", "gpu"])
def test_a_device_means_what_it_means_elsewhere(run: Run, tmp_path: Path, device: str) -> None:
    done = run("build", tmp_path, "-t", "tensorrt", "--device", device)
    assert done.code == 2
    assert f"cuda or cuda:N, not on '{device}'" in done.err


@pytest.mark.parametrize("target", Target)
def test_explain_needs_no_tensorrt(
    run: Run, tiny_model: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samtrt.tensorrt.api import load_api

    load_api.cache_clear()
    monkeypatch.setattr("samtrt.tensorrt.api.importlib.util.find_spec", lambda _name: None)
    done = run("build", tiny_model, "-t", target.value, "--explain", "--precision", "fp16")
    load_api.cache_clear()
    assert done.code == 0, done.err
    first, *commands = done.out.splitlines()
    assert "which is not installed here" in first
    assert sum(str(tiny_model / "encoder.onnx") in command for command in commands) == 1
