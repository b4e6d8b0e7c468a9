"""bench on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from support.command_line import Run


def test_table_and_json(run: Run, fake_directory: Path, photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    options = ("--image", photo, "--runs", 2, "--warmup", 0, "--prompts", 1, "--prompts", 3)
    done = run("bench", fake_directory, *options, "--json", path)
    assert done.code == 0, done.err
    for word in ("vit_t fp32 on fake (cpu)", "encoder", "decoder", "upscale", "end to end"):
        assert word in done.out
    written = json.loads(path.read_text())
    assert written["settings"]["prompts"] == [1, 3]
    assert written["settings"]["image"] == photo.name
    assert {"versions", "machine", "timings", "checkpoint_sha256"} <= written.keys()


def test_an_image_that_is_not_there(run: Run, fake_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = run("bench", fake_directory, "-i", "none.jpg", "--json", path)
    assert done.code == 2
    assert "none.jpg" in done.err
    assert not path.exists()


def test_what_is_not_its_own_is_not_replaced(
    run: Run, fake_directory: Path, photo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "notes.json"
    path.write_text("notes")
    command = ("bench", fake_directory, "-i", photo, "--runs", 1, "--warmup", 0, "--prompts", 1)
    done = run(*command, "--json", path)
    assert done.code == 2
    assert "was not written by samtrt" in done.err
    assert path.read_text() == "notes"
    for options in (("--force",), ()):  # the second time it replaces its own
        assert run(*command, "--json", path, *options).code == 0
