"""ONNX Runtime: against PyTorch, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from samtrt.backends import BackendOptions, open_backend
from samtrt.backends.ort import OnnxRuntimeBackend
from samtrt.choices import BackendName, Stage
from samtrt.errors import BackendError, ManifestError
from samtrt.manifest import FileEntry, Manifest
from samtrt.predictor import Predictor


def test_cuda_without_its_provider_is_an_error_not_a_cpu_run(tiny_model: Path) -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with pytest.raises(BackendError, match=r"has no CUDAExecutionProvider; .*samtrt\[ort-gpu\]"):
        Predictor.load(tiny_model, options=BackendOptions(device="cuda:0"))


def test_provider_that_does_not_start_is_an_error(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # onnxruntime itself would warn and run on the CPU.
    monkeypatch.setattr("samtrt.backends.ort._provider", lambda _: ("TensorrtProvider", {}))
    with pytest.raises(BackendError):
        Predictor.load(tiny_model)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", "tpu"])
def test_unknown_device(tiny_model: Path, device: str) -> None:
    with pytest.raises(BackendError, match="use cpu, cuda or cuda:N"):
        OnnxRuntimeBackend(tiny_model / "decoder.onnx", BackendOptions(device=device))


def test_truncated_graph(tiny_model: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(tiny_model, tmp_path / "model")
    path = directory / "encoder.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ManifestError, match="truncated"):
        Predictor.load(directory)
    # Even where the manifest vouches for it, the runtime's refusal is one line.
    manifest = Manifest.load(directory)
    files = {**manifest.files, Stage.ENCODER: (FileEntry.of(path),)}
    manifest.model_copy(update={"files": files}).save(directory)
    with pytest.raises(BackendError, match=r"onnxruntime cannot load .*encoder.onnx") as caught:
        Predictor.load(directory)
    assert "\n" not in str(caught.value)


def test_threads_are_passed_on(tiny_model: Path) -> None:
    backend = open_backend(
        BackendName.ONNXRUNTIME,
        tiny_model,
        Manifest.load(tiny_model),
        Stage.ENCODER,
        BackendOptions(threads=1),
    )
    assert backend.run({"images": np.zeros((1, 3, 256, 256), np.float32)})
    backend.close()
