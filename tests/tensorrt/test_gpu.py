"""Asking for a GPU: what CUDA answers, in words."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from samtrt.errors import BackendError
from samtrt.tensorrt.gpu import find_gpu

runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")


def answer(monkeypatch: pytest.MonkeyPatch, status: int, count: int = 0) -> None:
    ok = runtime.cudaError_t.cudaSuccess
    found = SimpleNamespace(
        name=b"NVIDIA H100 80GB HBM3\0\0junk", major=9, minor=0, totalGlobalMem=85_000_000_000
    )
    status = runtime.cudaError_t(status)
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (status, count))
    monkeypatch.setattr(runtime, "cudaGetDeviceProperties", lambda _: (ok, found))
    monkeypatch.setattr(runtime, "cudaDriverGetVersion", lambda: (ok, 13010))


def test_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 0, count=1)
    gpu = find_gpu()
    assert (gpu.name, gpu.compute_capability) == ("NVIDIA H100 80GB HBM3", "9.0")
    assert (gpu.memory, gpu.driver) == (85_000_000_000, "13.1")
    with pytest.raises(BackendError, match="there is no GPU 1: CUDA sees 1"):
        find_gpu(1)
    with pytest.raises(BackendError, match="there is no GPU -1"):
        find_gpu(-1)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (35, r"no NVIDIA driver, or it is older than this CUDA needs \(CUDA error 35\)"),
        (100, r"no GPU that CUDA can see \(CUDA error 100\)"),
        (999, r"cudaErrorUnknown \(CUDA error 999\); check with: nvidia-smi"),
    ],
)
def test_no_gpu(monkeypatch: pytest.MonkeyPatch, status: int, words: str) -> None:
    answer(monkeypatch, status)
    with pytest.raises(BackendError, match=words):
        find_gpu()
