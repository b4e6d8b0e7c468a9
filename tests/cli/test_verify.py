"""verify with a stored reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import Run


def test_a_stored_reference(
    run: Run, tiny_model: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "reference.safetensors"
    done = run("verify", tiny_model, "-c", tiny_checkpoint, "--save-reference", path)
    assert done.code == 0, done.err
    assert path.exists()
    done = run("verify", tiny_model, "--reference", path)
    assert done.code == 0, done.err
    assert "verified" in done.out
    for wrong in ((), ("--reference", path, "-c", tiny_checkpoint)):
        done = run("verify", tiny_model, *wrong)
        assert done.code == 2
        assert "give either --checkpoint or --reference" in done.err


def test_objects_are_followed_where_there_are_graphs(
    run: Run,
    sam2_model: Path,
    sam2_checkpoint: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside images; with the checkpoint, and with a stored reference of it."""
    monkeypatch.setenv("COLUMNS", "80")
    common = ("verify", sam2_model, "--image", photo, "--frames", 4)
    path, figures = tmp_path / "reference.safetensors", tmp_path / "report.json"
    done = run(*common, "-c", sam2_checkpoint, "--save-reference", path)
    assert done.code == 0, done.err
    for given in (("--reference", path), ("-c", sam2_checkpoint)):
        done = run(*common, *given, "--json", figures, "--force")
        assert done.code == 0, done.out + done.err
        _, title, shown = done.out.partition(
            "objects followed through the built-in clip, 384 x 288"
        )
        assert title
        assert max(map(len, shown.splitlines())) <= 80
        report = json.loads(figures.read_text())
        assert report["summary"]["video_worst_iou"] >= 0.999
        assert [one["frame"] for one in report["video"]["frames"]] == [0, 1, 2, 3, 2, 3]
    done = run(*common, "--reference", path, "--no-video")
    assert done.code == 0
    assert "followed" not in done.out
    done = run("verify", sam2_model, "--image", photo, "--reference", path, "--frames", 5)
    assert done.code == 2
    assert "another clip, not of the built-in clip with 5 frames" in done.err
