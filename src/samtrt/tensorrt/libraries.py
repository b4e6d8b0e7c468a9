"""The shared libraries of TensorRT and TensorRT-RTX: their names, on Linux and on Windows."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from samtrt.choices import Target

_RTX_PACKAGES = ("tensorrt_rtx_libs", "onnxruntime_ep_nv_tensorrt_rtx")
_RTX_FILES = {  # in order of need
    False: ("libtensorrt_rtx.so.1*", "libtensorrt_onnxparser_rtx.so.1*"),
    True: ("tensorrt_rtx_1_*.dll", "tensorrt_onnxparser_rtx_1_*.dll"),
}
_ON_WINDOWS = sys.platform == "win32"


def library_name(
    target: Target, version: tuple[int, ...], has_builder: bool, windows: bool = _ON_WINDOWS
) -> str:
    """Return the name by which the library of a version is loaded."""
    if target is Target.TENSORRT_RTX:
        # A DLL's name has the minor version, too.
        return "tensorrt_rtx_{}_{}.dll".format(*version) if windows else "libtensorrt_rtx.so.1"
    stem = "nvinfer" if has_builder else "nvinfer_lean"
    if windows:
        return f"{stem}_{version[0]}.dll" if version >= (10,) else f"{stem}.dll"
    return f"lib{stem}.so.{version[0]}"


def preload_rtx(windows: bool = _ON_WINDOWS) -> None:
    """Load the libraries of TensorRT-RTX for its bindings, which look on the system path only."""
    for folder in _rtx_folders():
        found = [next(iter(sorted(folder.glob(name))), None) for name in _RTX_FILES[windows]]
        if not all(found):
            continue
        if windows:  # there, the bindings want to see the files themselves
            paths = os.environ.get("PATH", "").split(os.pathsep)
            if str(folder) not in paths:
                os.environ["PATH"] = os.pathsep.join([str(folder), *paths])
        # Not RTLD_GLOBAL: the libraries of TensorRT and TensorRT-RTX define the same names,
        # and one would answer for the other. The bindings find these by their own names.
        for path in found:
            ctypes.CDLL(str(path))
        return


def _rtx_folders() -> Iterator[Path]:
    for package in _RTX_PACKAGES:
        # Located, not imported: the ONNX Runtime package does more than hold libraries.
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(folder)
