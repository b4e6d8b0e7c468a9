"""Which files of TensorRT and TensorRT-RTX are looked for, on Linux and on Windows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from samtrt.choices import Target
from samtrt.tensorrt import libraries
from samtrt.tensorrt.libraries import library_name, preload_rtx

FILES = {
    # As in the wheels of onnxruntime-ep-nv-tensorrt-rtx-cu13 0.5.0.
    False: ["libtensorrt_rtx.so.1.7.1", "libtensorrt_onnxparser_rtx.so.1.7.1"],
    True: ["tensorrt_rtx_1_7.dll", "tensorrt_onnxparser_rtx_1_7.dll"],
}


@pytest.mark.parametrize(
    ("target", "version", "builder", "linux", "windows"),
    [
        (Target.TENSORRT, (8, 6, 1), True, "libnvinfer.so.8", "nvinfer.dll"),
        (Target.TENSORRT, (10, 0, 1), True, "libnvinfer.so.10", "nvinfer_10.dll"),
        (Target.TENSORRT, (11, 4, 0), False, "libnvinfer_lean.so.11", "nvinfer_lean_11.dll"),
        (Target.TENSORRT_RTX, (1, 7, 1), True, "libtensorrt_rtx.so.1", "tensorrt_rtx_1_7.dll"),
    ],
)
def test_names(
    target: Target, version: tuple[int, ...], builder: bool, linux: str, windows: str
) -> None:
    assert library_name(target, version, builder, windows=False) == linux
    assert library_name(target, version, builder, windows=True) == windows


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package where the libraries may lie."""
    monkeypatch.setattr(libraries, "_RTX_PACKAGES", ("rtx_libraries_of_a_test",))
    folder = tmp_path / "rtx_libraries_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('never to be imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PATH", f"first{os.pathsep}second")
    return folder


@pytest.mark.parametrize("windows", [False, True])
def test_rtx_is_loaded_from_its_package(
    package: Path, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(libraries.ctypes, "CDLL", loaded.append)
    for name in FILES[not windows]:
        (package / name).touch()
    preload_rtx(windows)
    assert not loaded  # those of another system
    for name in FILES[windows]:
        (package / name).touch()
    for _ in range(2):
        preload_rtx(windows)
    assert loaded == 2 * [str(package / name) for name in FILES[windows]]
    # The bindings for Windows look for the files along PATH.
    places = os.environ["PATH"].split(os.pathsep)
    assert places == ([str(package)] if windows else []) + ["first", "second"]
