from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from samtrt.checkpoints.load import load_checkpoint
from samtrt.checkpoints.weight_files import read_weights
from samtrt.errors import CheckpointError
from samtrt.models import build_sam
from support.checkpoint_cases import SPEC, State, equal, refusal


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ""])
@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
def test_the_content_tells_the_format(tmp_path: Path, state: State, kind: str, suffix: str) -> None:
    path = tmp_path / f"sam{suffix}"
    if kind == "safetensors":
        save_file(state, path)
    else:
        with path.open("wb") as file:
            torch.save(state, file, _use_new_zipfile_serialization=kind == "archive")
    assert equal(load_checkpoint(path), state)


def test_a_header_whose_length_begins_as_a_pickle(tmp_path: Path, state: State) -> None:
    path, padding = tmp_path / "sam.safetensors", 0
    save_file(state, path)
    while path.read_bytes()[:1] != b"\x80":
        padding += 8
        save_file(state, path, {"padding": "x" * padding})
    assert equal(load_checkpoint(path), state)


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("kind", ["archive", "legacy", "pickle"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, state: State, kind: str, suffix: str
) -> None:
    path, marker = tmp_path / f"sam{suffix}", tmp_path / "it ran"
    content = {**state, "x": Exploit(marker)}
    with path.open("wb") as file:
        if kind == "pickle":
            pickle.dump(content, file)
        else:
            torch.save(content, file, _use_new_zipfile_serialization=kind == "archive")
    message = refusal(path)
    assert "refused: the file is a pickle that would run code" in message
    assert "torch.save(model.state_dict(), ...)" in message
    assert not marker.exists()
    if kind == "archive":
        assert "pathlib.Path" in message
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
        assert marker.exists()  # so it would have run


def test_a_pickled_module_is_refused(save: Callable[[object], Path]) -> None:
    assert "run code when loaded (samtrt." in refusal(save(build_sam(SPEC)))


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_a_truncated_file(tmp_path: Path, state: State, kind: str, share: float) -> None:
    path = tmp_path / "sam"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "archive")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    assert "no such file" in refusal(path)
    path.touch()
    assert "is empty" in refusal(path)
    for content in (b"x", b"<!DOCTYPE html><html></html>", b"version https://git-lfs.github.com"):
        path.write_bytes(content)
        assert "neither a PyTorch file" in refusal(path)
    for name, said in (("a/constants.pkl", "TorchScript"), ("a.txt", "not one that torch.save")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
        assert said in refusal(path)


def test_an_archive_that_was_compressed_again(save: Callable[[object], Path], state: State) -> None:
    path = save(state)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in entries.items():
            new.writestr(name, content)
    assert "compressed" in refusal(path)


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_bytes_never_escape_as_another_error(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    path = tmp_path / "damaged"
    small = {"a": torch.ones(2, 3), "b.c": torch.zeros(4, dtype=torch.float16)}
    if kind == "safetensors":
        save_file(small, path)
    else:
        torch.save(small, path, _use_new_zipfile_serialization=kind == "archive")
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(CheckpointError):
        read_weights(path)
