"""What a killed server leaves on disk, and what the next one may take away."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samtrt.errors import OutputError
from samtrt.preparation.frame import Frame
from samtrt.server.spill import SpillFolder
from samtrt.types import Embedding

EMBEDDING = Embedding(np.arange(100, dtype=np.float32).reshape(1, 100), Frame((1, 2), 256, 64))

KILLED = """
import os, sys, numpy as np
from pathlib import Path
from samtrt.preparation.frame import Frame
from samtrt.server.spill import SpillFolder
from samtrt.types import Embedding
folder = SpillFolder(Path(sys.argv[1]))
folder.write(Embedding(np.zeros((1, 9), dtype=np.float32), Frame((1, 2), 256, 64)))
os.kill(os.getpid(), 9)
"""


def kill_one(parent: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(parent)], timeout=120)
    assert done.returncode == -9


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = SpillFolder(tmp_path)
    spilled = folder.write(EMBEDDING)
    found = folder.read(spilled)
    assert found is not None
    np.testing.assert_array_equal(found.features, EMBEDDING.features)
    assert found.frame == EMBEDDING.frame
    folder.remove(spilled)
    folder.remove(spilled)
    assert folder.read(spilled) is None
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_it_is_private(tmp_path: Path) -> None:
    folder = SpillFolder(tmp_path)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in tmp_path.iterdir()} == {0}
    folder.close()


def test_the_next_start_removes_what_a_killed_server_left(tmp_path: Path) -> None:
    kill_one(tmp_path)
    assert len(list(tmp_path.rglob("*.embedding"))) == 1
    living = SpillFolder(tmp_path)
    written = living.write(EMBEDDING)
    assert list(tmp_path.rglob("*.embedding")) == [written.path]
    other = SpillFolder(tmp_path)  # must leave alone what belongs to the living
    assert living.read(written) is not None
    other.close()
    living.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    kill_one(tmp_path)
    (dead,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (dead / "holiday.jpg").write_bytes(b"not ours")
    for name in ("samtrt-notes", "samtrt-0123456789abcdef"):  # without a lock
        (tmp_path / name).mkdir()
        (tmp_path / name / "0123456789abcdef.embedding").write_bytes(b"whose?")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "0123456789abcdef.embedding").write_bytes(b"whose?")
    link = tmp_path / "samtrt-00000000000000aa"
    link.symlink_to(elsewhere)
    Path(f"{link}.lock").touch()
    SpillFolder(tmp_path).close()
    assert (dead / "holiday.jpg").exists()
    assert len(list(tmp_path.rglob("*.embedding"))) == 3
    assert link.is_symlink()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot spill"):
        SpillFolder(tmp_path)
