"""export, verify, fetch and the command line as a whole."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from PIL import Image
from typer.models import OptionInfo

import samtrt
from samtrt import cli
from samtrt.choices import BackendName, JpegWork, PixelWork
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


@pytest.mark.parametrize("command", ["verify", "bench", "predict", "auto", "embed", "serve"])
def test_a_checkpoint_is_named_as_in_export(
    run: Run, fake_directory: Path, photo: Path, tmp_path: Path, command: str
) -> None:
    """By a file, or a model's name, which here is not fetched yet."""
    further = {
        "predict": (photo, "--point", "9,9"),
        "auto": (photo, "-o", tmp_path / "out"),
        "embed": (photo, "-o", tmp_path / "out"),
    }.get(command, ())
    done = run(command, fake_directory, *further, "-b", "pytorch", "-c", "vit_b")
    assert done.code == 2
    assert "vit_b is not downloaded yet; run: samtrt fetch vit_b" in done.err


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
    assert "pip install 'samtrt[demo]'" in done.err
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


SHARED: dict[str, tuple[str | None, type | None, str, str]] = {
    # Its letter, what it takes, what the help says of it, and the commands that have it.
    "--output": ("-o", Path, "", "export quantize plugin predict auto track embed triton demo"),
    "--ray": (None, str, "", "predict auto embed serve"),
    "--json": (None, Path, "", "verify bench predict info"),
    "--device": (
        None,
        str,
        "cuda:N",
        "build verify bench predict auto track embed serve triton",
    ),
    "--checkpoint": (
        *("-c", str, "The checkpoint that DIR was exported from"),
        "verify bench predict auto track embed serve",
    ),
    "--backend": (
        "-b",
        BackendName,
        "Runtime",
        "verify bench predict auto track embed serve triton",
    ),
    "--image": ("-i", Path, "", "verify bench"),
    "--formats": ("-f", str, "", "predict auto"),
    "--recursive": ("-r", bool, "", "predict auto embed"),
    "--threads": (None, int, "CPU threads", "verify bench predict auto track embed serve triton"),
    "--pixels": (None, PixelWork, "TensorRT", "verify bench predict auto embed serve"),
    "--jpeg": (None, JpegWork, "TensorRT", "predict auto embed"),
}
"""What an option is wherever it is: where to write, a file of figures, where to run, ..."""


def options_of(command: str) -> dict[str, tuple[set[str], set[Any], str]]:
    """Return letters, types and help of a command's options, by their long names."""
    (found,) = (each for each in cli.app.registered_commands if each.name == command)
    options = {}
    for name, hint in get_type_hints(found.callback, include_extras=True).items():
        kind, *rest = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if rest and isinstance(rest[0], OptionInfo):
            # Of what an annotation gives, typer holds the first name as its default.
            given = (rest[0].default, *(rest[0].param_decls or ()))
            names = {each for each in given if isinstance(each, str)}
            names = names or {f"--{name.replace('_', '-')}"}
            (long,) = (each for each in names if each.startswith("--"))
            kinds = {*(get_args(kind) or (kind,))} - {type(None)}
            kinds = {part for each in kinds for part in (get_args(each) or (each,))}
            options[long] = (names - {long}, kinds, rest[0].help or "")
    return options


@pytest.mark.parametrize("name", SHARED)
def test_an_option_is_the_same_in_every_command(name: str) -> None:
    letter, kind, words, where = SHARED[name]
    found = {command: options_of(command) for command in COMMANDS}
    having = {command: options[name] for command, options in found.items() if name in options}
    assert having.keys() == set(where.split())
    for command, (letters, kinds, told) in having.items():
        # What a cluster writes may lie at an address, such as s3://bucket/folder.
        on_cluster = name == "--output" and "--ray" in found[command]
        assert letters == ({letter} if letter else set())
        assert kind is None or kinds == {str if on_cluster else kind}
        assert words in told


def test_a_letter_is_one_option_in_every_command() -> None:
    known: dict[str, set[str]] = {}
    for command in COMMANDS:
        for name, (letters, _, _) in options_of(command).items():
            for letter in letters:
                known.setdefault(letter, set()).add(name)
    assert all(len(names) == 1 for names in known.values()), known
