"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from samtrt.checkpoints.weight_files import read_weights
from samtrt.cli.results import is_ours
from samtrt.client import image_bytes
from samtrt.errors import CheckpointError, ImageError, ManifestError, OutputError, PromptError
from samtrt.files import sha256_of, staging_directory, write_atomic
from samtrt.formats import read_boxes
from samtrt.images.orientation import orientation_of_file
from samtrt.manifest import MANIFEST_NAME, Manifest


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_written_file_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with write_atomic(target) as temporary:
            temporary.write_text(text)
            assert not target.exists() or target.read_text() == "one"
    assert target.read_text() == "two"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError()])
def test_failed_write_leaves_the_old_file(tmp_path: Path, error: Exception) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    expected = OutputError if isinstance(error, OSError) else KeyError
    with pytest.raises(expected), write_atomic(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with write_atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("text")
        with staging_directory(tmp_path / "d") as staging, write_atomic(staging / "b") as temporary:
            temporary.write_text("text")
    finally:
        os.umask(before)
    for path in (tmp_path / "a.txt", tmp_path / "d" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_writing_leaves_the_mask_of_the_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads create files with it meanwhile."""
    masks: list[int] = []
    monkeypatch.setattr(os, "umask", lambda mask: masks.append(mask) or 0)
    with write_atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("text")
    assert not masks


def test_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), write_atomic(tmp_path / "file" / "x"):
        pass
    with pytest.raises(OutputError, match="is a file, not a directory"):
        staging_directory(tmp_path / "file").__enter__()
    assert names(tmp_path) == ["file"]


def test_staged_files_move_together(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with staging_directory(target) as staging:
        (staging / "a").write_text("a")
        (staging / "b").write_text("b")
        assert not target.exists()
    assert names(target) == ["a", "b"]
    with pytest.raises(OutputError, match="No space left"), staging_directory(target) as staging:
        (staging / "a").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (target / "a").read_text() == "a"
    assert names(tmp_path) == ["model"]


def test_hash_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 3_000_001)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
@pytest.mark.timeout(30)
def test_a_pipe_is_refused_at_once_wherever_a_file_is_read(tmp_path: Path) -> None:
    """Opening one waits for its other end."""
    pipe = tmp_path / MANIFEST_NAME
    os.mkfifo(pipe)
    with pytest.raises(PromptError, match=r"cannot read boxes from .*: it is not a regular file"):
        read_boxes(pipe, (9, 9))
    with pytest.raises(ManifestError, match=r"cannot read .*it is not a regular file"):
        Manifest.load(tmp_path)
    with pytest.raises(ImageError, match="it is not a regular file"):
        image_bytes(pipe)
    with pytest.raises(CheckpointError, match="it is not a regular file"):
        read_weights(pipe)
    assert orientation_of_file(pipe) == 1
    assert not is_ours(pipe)
