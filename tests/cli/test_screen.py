"""What a user sees on a terminal of 80 columns, and whether it can be pasted."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest

import samtrt.cli
from samtrt.choices import Precision
from samtrt.cli import app, bench, main, results, screen, verify
from samtrt.formats.annotation import Annotation
from samtrt.masks import rle
from support.command_line import Run, parsed
from support.samples import make_manifest

SOURCES = Path(samtrt.cli.__file__).parent
COMMANDS = sorted(command.name or "" for command in app.registered_commands)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_and_cuts_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import typer.main

    assert main([*([name] if name else []), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    assert not re.search(r"[a-z]\.\.\. ", text), "a sentence is cut"
    if name:
        command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        for option in (each for each in command.params if each.param_type_name == "option"):
            for word in (*option.opts, *option.secondary_opts):
                assert re.search(rf"(?<!\S){word}(?![\w-])", text), word
    for default in re.findall(r"default: ([^\]\[;]*)", text):
        assert not re.search(r"\d\.\d{5}", default), default
        assert not re.search(r"[A-Z]\w+\.[A-Z_]+", default), f"a name of Python's: {default}"


def rows_of(out: str) -> list[str]:
    return [line.rstrip() for line in out.splitlines()]


@pytest.mark.usefixtures("narrow")
def test_verifys_tables_have_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    from samtrt.verification.report import THRESHOLDS, EmbeddingResult, PromptResult, Report

    prompts = ("one point", "points of both kinds", "box and points", "rough mask with a box")
    report = Report(
        model="efficientvit_sam_xl1",
        precision="int8 dynamic, bf16",
        backend="openvino-bf16",
        device="cpu",
        preparation=make_manifest().preparation,
        embeddings=(EmbeddingResult("photograph", (4000, 6000), 1.234e-4, 1.2345e-4),) * 3,
        prompts=tuple(
            PromptResult(
                image="photograph",
                prompt=prompt,
                ious=(0.99999,) * 16,
                logits_max_abs=1.0,
                logits_relative=1.2e-4,
                scores_max_abs=1e-3,
                pairs=1600,
                pairs_differing=16,
                choices=1600,
                choices_differing=16,
            )
            for prompt in prompts
        ),
        thresholds=THRESHOLDS[Precision.FP32],
    )
    verify.show(report)
    rows = rows_of(capsys.readouterr().out)
    assert max(map(len, rows[1:])) <= 80
    for prompt in prompts:
        (row,) = [row for row in rows if row.startswith(prompt)]
        assert len(row.split()) == len(prompt.split()) + 6


@pytest.mark.usefixtures("narrow")
def test_benchs_table_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    from samtrt.benchmark import Result, Timing

    parts = ("encoder", "decoder", "preprocess and encode", "end to end")
    timings = [
        Timing(part, 64, 12345.67, 12345.67, 12345.67, 1, 1, 12345.6, 12345.67) for part in parts
    ]
    result = Result(
        **{
            **dict.fromkeys(Result.__dataclass_fields__, None),  # type: ignore[arg-type]
            "model": "vit_h",
            "precision": "fp16",
            "backend": "tensorrt",
            "device": "cuda:0",
            "timings": timings,
            "skipped": ["decoder of 128 prompts: [the engine takes 64]"],
        }
    )
    bench.show(result)
    rows = rows_of(capsys.readouterr().out)
    assert max(map(len, rows)) <= 80
    for part in parts:
        (row,) = [row for row in rows if row.startswith(part)]
        assert len(row.split()) == len(part.split()) + 6
    assert "[the engine takes 64]" in rows[-1]


@pytest.mark.usefixtures("narrow")
def test_predicts_table_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    mask = np.ones((90, 120), dtype=np.bool_)
    one = Annotation.of(rle.encode(mask), {"label": "[red]cup"}, prompt=12, predicted_iou=0.987654)
    results.show(results.Results({}, (one,) * 2, labelled=True))
    rows = rows_of(capsys.readouterr().out)
    assert [row.split() for row in rows[-2:]] == [
        ["12", "[red]cup", "0.988", "10,800", "0,", "0,", "120,", "90"]
    ] * 2


@pytest.mark.usefixtures("narrow")
def test_this_machine_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert max(map(len, rows_of(capsys.readouterr().out))) <= 80


def test_next_steps_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    screen.next_step("verify", "my models/a'b", "--checkpoint", Path("x y.pth"))
    assert parsed(capsys.readouterr().out) == {
        "directory": Path("my models/a'b"),
        "checkpoint": "x y.pth",
    }
    for sha256, expected in (("0" * 64, "bench"), (None, "verify")):
        manifest = make_manifest()
        if sha256 is None:
            from samtrt.files import sha256_of

            sha256 = sha256_of(samtrt.assets.SMALL_CHECKPOINT)
        entry = manifest.checkpoint.model_copy(update={"sha256": sha256})
        screen.next_check("out dir", manifest.model_copy(update={"checkpoint": entry}))
        line = capsys.readouterr().out
        assert shlex.split(line)[:3] == ["Next:", "samtrt", expected]
        assert parsed(line)["directory"] == Path("out dir")


def test_next_steps_work_where_no_environment_is_active(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As after `make demo`, which calls .venv/bin/samtrt."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for called, said in ((".venv/bin/samtrt", ".venv/bin/samtrt"), ("-c", "samtrt")):
        monkeypatch.setattr(sys, "argv", [called, "demo"])
        screen.next_step("serve", "demo-out/model")
        assert capsys.readouterr().out == f"Next: {said} serve demo-out/model\n"
    (tmp_path / "samtrt").touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [".venv/bin/samtrt", "demo"])
    screen.next_step("serve", "demo-out/model")
    assert capsys.readouterr().out == "Next: samtrt serve demo-out/model\n"


def test_every_next_step_goes_the_way_that_quotes() -> None:
    """No command writes such a line by itself, and none has a placeholder to fill in."""
    for path in SOURCES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "screen.py":
            assert "Next: " not in text, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "next_step":
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                assert words
                assert not [word for word in words if str(word).isupper()], path.name


def test_one_is_no_plural(run: Run, fake_directory: Path, photo: Path) -> None:
    options = ("--points-per-side", "1", "--pred-iou-thresh", "0", "--box-nms-thresh", "0")
    done = run("auto", fake_directory, photo, "-o", photo.parent / "o", "-f", "none", *options)
    assert done.code == 0, done.err
    assert done.out.startswith("1 image, 1 mask in ")


def test_a_spinner_turns_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with screen.working("quiet") as tell:
        tell("still quiet")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with screen.working("outer [step]") as tell, screen.working("inner"):
        tell("next [step]")
    shown = capsys.readouterr().err
    assert "[step]" in shown
    assert "inner" not in shown
