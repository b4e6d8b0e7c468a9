"""What all commands share: how they end, and who tells what cannot be read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.command_line import Run

WAITS = """
import sys, time
from pathlib import Path
from samtrt.cli import app, main
from samtrt.files import staging_directory, write_atomic

@app.command()
def wait(place: Path) -> None:
    with write_atomic(place / "a.json") as file, staging_directory(place / "model") as staging:
        file.write_text("half")
        (staging / "encoder.onnx").write_text("half")
        print("begun", flush=True)
        time.sleep(60)

sys.exit(main(["wait", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_what_is_half_done_is_removed(tmp_path: Path, name: str, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, "")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_told_in_a_line(
    run: Run, fake_directory: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our readers, not by Typer, with its usage around."""

    def locked(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr("samtrt.images.read.open_regular", locked)
    done = run("predict", fake_directory, photo, "-p", "9,9", "--json", photo.with_suffix(".json"))
    assert done.code == 2
    assert done.err == f"samtrt: error: cannot read {photo}: Permission denied\n"
