"""`samtrt triton`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import Run


def test_the_command_writes_and_tells_how_to_start(
    run: Run, fake_directory: Path, tmp_path: Path
) -> None:
    done = run("triton", str(fake_directory), "-o", str(tmp_path / "models"), "--cache", "7")
    assert done.code == 0, done.err
    assert "tritonserver --model-repository" in done.out
    said = json.loads((tmp_path / "models" / "sam" / "1" / "samtrt-triton.json").read_text())
    assert said["cache_bytes"] == 7 << 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name", "a/b"), "no name for a model"),
        (("--start", "--host", "0.0.0.0"), "--insecure"),
    ],
)
def test_the_command_refuses_in_one_line(
    run: Run, fake_directory: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = run("triton", str(fake_directory), "-o", str(tmp_path / "models"), *options)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "models").exists()
