"""export, verify, fetch and the command line as a whole."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import samtrt
from samtrt import cli
from samtrt.manifest import Manifest
from support.command_line import Run
from support.oracle import random_image

COMMANDS = [command.name for command in cli.app.registered_commands]


@pytest.mark.usefixtures("traced_once")
def test_export_then_verify(run: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model, report = tmp_path / "model", tmp_path / "report.json"
    done = run("export", tiny_checkpoint, "-o", model, "--model", "vit_t")
    assert done.code == 0, done.err
    assert "vit_t exported (fp32, opset 20)" in done.out
    assert Manifest.load(model).model == "vit_t"

    image = tmp_path / "image.png"
    Image.fromarray(random_image(60, 90)).save(image)
    verify = ("verify", model, "-c", tiny_checkpoint, "--image", image)
    done = run(*verify, "--json", report)
    assert done.code == 0, done.out + done.err
    assert "verified" in done.out
    written = json.loads(report.read_text())
    assert written["summary"]["passed"] is True
    assert {entry["image"] for entry in written["embeddings"]} == {"image.png"}

    done = run(*verify, "--min-worst-iou", "1", "--min-iou", "1")
    assert done.code == (0 if written["summary"]["worst_iou"] == 1 else 1)


def test_verify_fails_with_1_and_says_why(
    run: Run, tiny_model: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    from samtrt.backends.ort import OnnxRuntimeBackend

    honest = OnnxRuntimeBackend.run

    def wrong(self: OnnxRuntimeBackend, feeds: object, on_host: bool = True) -> object:
        return {name: -array for name, array in honest(self, feeds, on_host).items()}

    monkeypatch.setattr(OnnxRuntimeBackend, "run", wrong)
    done = run("verify", tiny_model, "-c", tiny_checkpoint, "-i", photo)
    assert done.code == 1
    assert "failed: embedding of photo.png" in done.out


def test_verify_without_the_checkpoint(run: Run, tiny_model: Path) -> None:
    done = run("verify", tiny_model, "-c", "vit_b")
    assert done.code == 2
    assert "samtrt fetch vit_b" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vit_b"], "vit_b"),
        (["--opset", "9"], "opset 9 is not supported: choose 17"),
        (["--attention", "mask"], "is for PyTorch: export 'add', 'tiled', 'folded' or 'plugin'"),
    ],
)
def test_export_refuses(
    run: Run, tiny_checkpoint: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run("export", tiny_checkpoint, "-o", tmp_path / "model", *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_export_refuses_broken_weights(
    run: Run, tiny_checkpoint: Path, tmp_path: Path, value: float
) -> None:
    state = torch.load(tiny_checkpoint, weights_only=True)
    state["mask_decoder.iou_token.weight"][0, 0] = value
    torch.save(state, tmp_path / "broken.pth")
    done = run("export", tmp_path / "broken.pth", "-o", tmp_path / "model")
    assert done.code == 2
    assert "mask_decoder.iou_token.weight" in done.err


def test_export_of_a_missing_file(run: Run, tmp_path: Path) -> None:
    done = run("export", tmp_path / "none.pth", "-o", tmp_path / "model")
    assert done.code == 2
    assert "none.pth" in done.err


def test_fetch_of_an_unknown_model(run: Run) -> None:
    done = run("fetch", "vit_x")
    assert done.code == 2
    assert "vit_x" in done.err
    assert "vit_b" in done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert "Usage" in done.out


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.out) == (0, f"samtrt {samtrt.__version__}\n")


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxruntime"])
def test_demo_names_all_that_it_needs_before_it_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    found = importlib.util.find_spec

    def without(name: str) -> object:
        return None if name == package else found(name)

    monkeypatch.setattr(sys.modules["samtrt.cli.demo"], "find_spec", without)
    done = run("demo", "-o", tmp_path / "out")
    assert done.code == 2
    assert f"'{package}'" in done.err
    assert "pip install 'samtrt[export,ort]'" in done.err
    assert not (tmp_path / "out").exists()


def test_usage_errors_exit_with_2(run: Run) -> None:
    assert run("predict").code == 2
    assert run("export", "x").code == 2
    assert run("unknown").code == 2
    assert run("info", "--wrong").code == 2
    assert run("predict", "a", "b", "--backend", "tpu").code == 2


def test_module_and_script_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "samtrt", "--help"], capture_output=True, text=True, check=True
    )
    for command in COMMANDS:
        assert command in done.stdout
