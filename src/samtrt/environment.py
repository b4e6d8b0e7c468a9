"""What this machine can run: installed packages, backends, and the devices they offer."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from samtrt._version import __version__
from samtrt.choices import Target
from samtrt.errors import MissingExtraError, SamtrtError

PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-lean-cu13-bindings",
    "tensorrt-rtx-cu13-bindings",
    "cuda-bindings",
    "torch",
    "onnx",
    "onnxscript",
    "onnxsim",
)


@dataclass(frozen=True)
class BackendStatus:
    """One backend as found here.

    Attributes:
        name: As `--backend` takes it.
        works: Whether it can run on at least one device.
        devices: What `--device` may be.
        note: What it is good for, or what to do to have it.
    """

    name: str
    works: bool
    devices: tuple[str, ...]
    note: str


def versions() -> dict[str, str | None]:
    """Return the version of each package that samtrt can use, None where it is not installed."""
    found: dict[str, str | None] = {"samtrt": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def backends() -> tuple[BackendStatus, ...]:
    """Return what every backend can do here. PyTorch is looked at in a process of its own."""
    return _onnxruntime(), *_openvino(), *map(_tensorrt, Target), _pytorch()


def _onnxruntime() -> BackendStatus:
    try:
        import onnxruntime as ort
    except ImportError:
        return BackendStatus("onnxruntime", False, (), "pip install 'samtrt[ort]'")
    devices = ["cpu"]
    note = "deployment on CPUs; for GPUs: pip install 'samtrt[ort-gpu]'"
    if "CUDAExecutionProvider" in ort.get_available_providers():
        devices.append("cuda")
        note = "deployment on CPUs and NVIDIA GPUs"
    return BackendStatus("onnxruntime", True, tuple(devices), note)


def _openvino() -> tuple[BackendStatus, BackendStatus]:
    names = "openvino", "openvino-bf16"
    try:
        from samtrt.backends.openvino import has_bf16
    except MissingExtraError:
        fp32, bf16 = (
            BackendStatus(name, False, (), "pip install 'samtrt[openvino]'") for name in names
        )
        return fp32, bf16
    if not has_bf16():
        return (
            BackendStatus(names[0], True, ("cpu",), "in fp32 about as fast as onnxruntime"),
            BackendStatus(names[1], False, (), "this processor has no bf16 arithmetic"),
        )
    return (
        BackendStatus(names[0], True, ("cpu",), "fp32; slower here than openvino-bf16"),
        BackendStatus(
            names[1], True, ("cpu",), "fastest on this CPU, which multiplies in bf16; verify masks"
        ),
    )


def _tensorrt(target: Target) -> BackendStatus:
    from samtrt.tensorrt.api import load_api
    from samtrt.tensorrt.gpu import find_gpu

    try:
        api = load_api(target, runtime_only=True)
        gpu = find_gpu()
    except SamtrtError as error:
        return BackendStatus(target.value, False, (), str(error))
    note = f"{api.product} on {gpu.name}; build engines with: samtrt build"
    return BackendStatus(target.value, True, ("cuda",), note)


def _pytorch() -> BackendStatus:
    if versions()["torch"] is None:
        return BackendStatus("pytorch", False, (), "pip install 'samtrt[export]'")
    # Importing torch takes seconds and much memory, which `info` should not keep.
    code = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it does not import"])[-1]
        return BackendStatus("pytorch", False, (), reason)
    devices = ("cpu", "cuda") if done.stdout.strip() == "cuda" else ("cpu",)
    return BackendStatus("pytorch", True, devices, "the reference that verify compares with")


def as_json() -> dict[str, Any]:
    """Return the whole survey as plain values."""
    return {
        "versions": versions(),
        "backends": [vars(status) for status in backends()],
        "machine": {"system": platform.platform(), "processor": platform.machine()},
    }
