"""What is not finished is ours alone, and what a killed process left is removed; nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from samtrt import unfinished
from samtrt.files import staging_directory, write_atomic

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")

KILLED = """
import os, sys
from pathlib import Path
from samtrt.files import staging_directory, write_atomic
here = Path(sys.argv[1])
with write_atomic(here / "a.json") as file, staging_directory(here) as staging:
    file.write_text("half")
    (staging / "encoder.onnx").write_text("half")
    (staging / "work").mkdir()
    (staging / "work" / "traced.onnx").write_text("half")
    os.kill(os.getpid(), 9)
"""


def killed(here: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(here)], timeout=120)
    assert done.returncode == -9


def names(here: Path) -> list[str]:
    return sorted(path.name for path in here.iterdir())


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed(tmp_path)
    assert len(names(tmp_path)) == 2
    with write_atomic(tmp_path / "b.json") as file:
        file.write_text("whole")
    assert names(tmp_path) == ["b.json"]


def test_what_lives_or_is_not_ours_stays(tmp_path: Path) -> None:
    others = (
        ".samtrt",
        ".samtrt-notes",
        ".samtrt-0123456789abcdef.tar.gz",
        "samtrt-0123456789abcdef",
    )
    for name in others:
        (tmp_path / name).write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("mine")
    (tmp_path / ".samtrt-0123456789abcdef").symlink_to(elsewhere)
    killed(tmp_path)
    with write_atomic(tmp_path / "b.json") as file, staging_directory(tmp_path) as staging:
        assert len(unfinished.remove_dead(tmp_path)) == 0  # the first write removed the dead
        assert file.exists()
        assert staging.exists()
        file.write_text("whole")
        (staging / "c").write_text("whole")
    assert names(tmp_path) == sorted(
        [*others, ".samtrt-0123456789abcdef", "b.json", "c", "elsewhere"]
    )
    assert names(elsewhere) == ["kept"]


def test_what_is_linked_to_is_left_alone(tmp_path: Path) -> None:
    """Of a dead directory with a link in it, the link goes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    dead = tmp_path / "in" / ".samtrt-0123456789abcdef"
    dead.mkdir(parents=True)
    (dead / "link").symlink_to(outside)
    assert unfinished.remove_dead(tmp_path / "in") == [dead]
    assert names(outside) == ["kept"]


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    killed(tmp_path)
    monkeypatch.setattr(unfinished, "fcntl", None)
    with write_atomic(tmp_path / "b.json") as file:
        file.write_text("whole")
    assert len(names(tmp_path)) == 3
