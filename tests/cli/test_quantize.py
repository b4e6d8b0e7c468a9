"""`samtrt quantize`, and what other commands say of its models."""

from __future__ import annotations

import json
from pathlib import Path

from support.command_line import Run, parsed

LAYER = "blocks.0.attn.qkv"


def test_int8_model_is_told_from_its_float32_one(
    run: Run, photo: Path, tiny_model: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "int8", tmp_path / "report.json"
    done = run("quantize", tiny_model, "-o", out, "--calib", photo, "--keep", LAYER)
    assert done.code == 0, done.err
    assert f"vit_t quantized (dynamic), in float32: {LAYER}." in done.out
    assert "The encoder: " in done.out
    assert " MB, from " in done.out
    assert parsed(done.out) == {"directory": out}
    assert "int8 (dynamic), 1 layer in fp32" in run("info", out).out
    run("verify", out, "-c", tiny_checkpoint, "-i", photo, "--json", report)
    assert json.loads(report.read_text())["precision"] == "int8 dynamic"


def test_missing_image_is_one_line(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    done = run("quantize", tiny_model, "-o", tmp_path / "int8", "--calib", tmp_path / "none.png")
    assert done.code == 2
    assert "no image at" in done.err
    assert not (tmp_path / "int8").exists()
