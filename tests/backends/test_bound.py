"""ONNX Runtime on bound memory: its CPU provider on a stand-in for CUDA whose memory is real."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend
from samtrt.backends.bound import BoundSession
from samtrt.backends.ort import OnnxRuntimeBackend
from samtrt.choices import Stage
from samtrt.cuda.memory import Memory
from samtrt.cuda.runtime import Cuda
from samtrt.errors import BackendError
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.types import DeviceArray, to_host
from support import fake_cuda_streams, fake_tensorrt
from support.oracle import random_image
from support.trt_cases import boxes, same

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda_streams.Cuda]:
    fake = fake_cuda_streams.install(monkeypatch, real_addresses=True)
    yield fake
    fake_tensorrt.check_left_clean(fake)


def bound(directory: Path) -> Predictor:
    """A predictor as on a GPU, but for ONNX Runtime's name of the place."""

    def stage(which: Stage) -> Backend:
        backend = OnnxRuntimeBackend(manifest.path_of(directory, which), BackendOptions())
        backend.device = "cuda:0"
        backend._memory = Memory(Cuda(0, "ort-gpu"))
        place = ("cpu", 0)
        backend._bound = BoundSession(backend._session, backend._memory, place, backend.outputs)
        return backend

    manifest = Manifest.load(directory)
    return Predictor(stage(Stage.ENCODER), stage(Stage.DECODER), manifest)


def test_gives_what_the_session_gives(tiny_model: Path, picture: np.ndarray) -> None:
    with bound(tiny_model) as ours, Predictor.load(tiny_model) as reference:
        for one in (ours, reference):
            one.set_image(picture)
        assert isinstance(ours.embedding.features, DeviceArray)
        assert ours.embedding.features.device == "cuda:0"
        mask = np.random.default_rng(0).normal(size=(2, 1, 64, 64)).astype(np.float32)
        for arguments in (
            {"boxes": boxes(3)},
            {"boxes": boxes(5, seed=1)},  # more zeros for masks than before
            {"point_coords": [[[60, 50], [10, 10]]], "point_labels": [[1, 0]]},
            {"mask_input": mask},  # no points
            {"boxes": boxes(2)},
            {"boxes": boxes(2), "mask_input": mask},
        ):
            same(ours.predict_batch(**arguments), reference.predict_batch(**arguments))


def test_embeddings_are_not_uploaded_again(
    tiny_model: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime as ort

    uploads: list[str] = []
    honest = ort.IOBinding.bind_cpu_input

    def upload(binding: Any, name: str, array: Any) -> None:
        uploads.append(name)
        honest(binding, name, array)

    monkeypatch.setattr(ort.IOBinding, "bind_cpu_input", upload)
    with bound(tiny_model) as ours:
        ours.set_image(picture)
        assert uploads == ["images"]
        del uploads[:]
        ours.predict(box=[10, 10, 60, 60])
        assert sorted(uploads) == ["has_mask_input", "point_coords", "point_labels"]


def test_outputs_stay_the_callers(tiny_model: Path) -> None:
    with bound(tiny_model) as ours:
        images = [random_image(60, 80, seed=i) for i in range(4)]
        wanted = [ours.encode(image).host_features().copy() for image in images]
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(ours.encode, images))
        for embedding, features in zip(made, wanted, strict=True):
            np.testing.assert_array_equal(to_host(embedding.features), features)
        encoder = ours.encoder
    with pytest.raises(BackendError, match="closed"):
        encoder.run({"images": np.zeros((1, 3, 256, 256), np.float32)}, on_host=False)
    np.testing.assert_array_equal(to_host(made[0].features), wanted[0])  # outlives its session
    del made, embedding


def test_a_gpu_without_room(tiny_model: Path, cuda: fake_cuda_streams.Cuda) -> None:
    with bound(tiny_model) as ours:
        cuda.memory = cuda.used
        with pytest.raises(BackendError, match="GPU is out of memory"):
            ours.encode(random_image(60, 80))


def test_cuda_needs_cuda_bindings_of_its_own_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from samtrt.errors import MissingExtraError

    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r"samtrt\[ort-gpu\]"):
        Cuda(0, "ort-gpu")
