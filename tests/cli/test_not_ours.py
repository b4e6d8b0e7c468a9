"""What samtrt did not write is not replaced without --force; told before any work."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from samtrt.build.engines import build_engines
from samtrt.build.options import BuildOptions
from samtrt.choices import Stage, Target
from samtrt.errors import ManifestError, OutputError, SamtrtError
from samtrt.files import staging_directory
from samtrt.manifest import MANIFEST_NAME, check_model_directory
from samtrt.tensorrt.record import Exact
from support.command_line import Run

NAMES = ("encoder.onnx", "decoder.onnx", "encoder.onnx.data", MANIFEST_NAME)


@pytest.mark.parametrize("name", NAMES)
def test_an_export_replaces_no_graph_of_another_tool(run: Run, tmp_path: Path, name: str) -> None:
    place = tmp_path / "model"
    place.mkdir()
    (place / name).write_text("mine")
    command = ("export", tmp_path / "none.pth", "-o", place)
    done = run(*command)
    assert done.code == 2
    assert f"{place / name} is there already and was not written by samtrt" in done.err
    assert "none.pth" in run(*command, "--force").err  # the next thing that is wrong
    assert (place / name).read_text() == "mine"


def test_an_int8_model_replaces_no_graph_of_another_tool(
    run: Run, fake_directory: Path, photo: Path, tmp_path: Path
) -> None:
    place = tmp_path / "int8"
    place.mkdir()
    (place / "encoder.onnx").write_text("mine")
    done = run("quantize", fake_directory, "-o", place, "--calib", photo)
    assert done.code == 2
    assert "was not written by samtrt" in done.err


def test_an_earlier_export_is_ours(fake_directory: Path) -> None:
    check_model_directory(fake_directory, force=False)
    for damaged in (b"", b'{\n  "format": 3,\n  "mod'):
        (fake_directory / MANIFEST_NAME).write_bytes(damaged)
        check_model_directory(fake_directory, force=False)
    for other in (b"[]", b"{}", b'{"name": 1}'):
        (fake_directory / MANIFEST_NAME).write_bytes(other)
        with pytest.raises(OutputError, match="was not written by samtrt"):
            check_model_directory(fake_directory, force=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_an_export_replaces_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "encoder.onnx")
    with pytest.raises(OutputError, match="a device, a pipe or the like"):
        check_model_directory(tmp_path, force=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_what_was_private_stays_private(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_text("old")
    (tmp_path / "encoder.onnx").chmod(0o600)
    with staging_directory(tmp_path) as staging:
        (staging / "encoder.onnx").write_text("new")
    assert (tmp_path / "encoder.onnx").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "encoder.onnx").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "name",
    ["encoder.tensorrt.engine", "decoder-4x2.tensorrt.engine", "decoder.tensorrt.json"],
)
def test_a_build_replaces_no_engine_without_a_record(fake_directory: Path, name: str) -> None:
    path = fake_directory / name
    path.write_text("mine")
    options = BuildOptions(exact=(Exact(4, 2),))
    with pytest.raises(OutputError, match=f"{name} is there already and was not written by samtrt"):
        build_engines(fake_directory, Target.TENSORRT, options)
    with pytest.raises(SamtrtError) as caught:  # no TensorRT here, or no graph
        build_engines(fake_directory, Target.TENSORRT, options, tuple(Stage), force=True)
    assert not isinstance(caught.value, OutputError | ManifestError)
    assert path.read_text() == "mine"
