"""Embeddings on a GPU have a budget of their own, and make room where the GPU is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, PixelWork
from samtrt.cuda.memory import Memory
from samtrt.cuda.runtime import Cuda
from samtrt.encoding import prepare
from samtrt.errors import DeviceMemoryError
from samtrt.predictor import Predictor
from samtrt.preparation.frame import Frame
from samtrt.server.metrics import Metrics
from samtrt.server.scheduler import Scheduler
from samtrt.server.settings import Settings
from samtrt.server.store import ImageStore
from samtrt.types import DeviceArray, Embedding
from support import fake_cuda_streams, fake_tensorrt
from support.fake_runtime import fake_predictor
from support.oracle import random_image

UNIT = 4096

FRAME = Frame((10, 20), 256, 64)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    fake_cuda_streams.install(monkeypatch)
    return Memory(Cuda(0))


def embedding(memory: Memory, value: int) -> Embedding:
    features = memory.empty((1, UNIT // 4), np.dtype(np.float32))
    numbers = np.full((1, UNIT // 4), value, np.float32)
    memory.cuda.runtime.cudaMemcpy(features.pointer, numbers.ctypes.data, UNIT, 0)
    return Embedding(features, FRAME)


def places(store: ImageStore, ids: list[str]) -> str:
    """Return where each image is: d on the GPU, h on the host, s on disk."""
    found = {**store._memory, **store._disk}
    return "".join("s" if i in store._disk else "dh"[not found[i].on_device] for i in ids)


def test_gpu_then_memory_then_disk(memory: Memory, tmp_path: Path) -> None:
    settings = Settings(device_cache_bytes=2 * UNIT, cache_bytes=2 * UNIT, spill_dir=tmp_path)
    metrics = Metrics()
    store = ImageStore(settings, metrics)
    ids = [store.add(embedding(memory, value)) for value in range(6)]
    assert places(store, ids) == "sshhdd"
    assert metrics.cached_device_bytes._value.get() == metrics.cached_bytes._value.get() == 2 * UNIT
    for value, image_id in enumerate(ids):
        found = store.get(image_id)
        assert (found.host_features() == value).all()
        assert found.original_size == (10, 20)
    assert places(store, ids[4:]) == "dd"  # what was used last stays
    store.remove(ids[5])
    assert metrics.cached_device_bytes._value.get() == UNIT
    store.close()


def test_leaving_the_gpu_moves_the_oldest_half(memory: Memory) -> None:
    store = ImageStore(Settings(), Metrics())
    assert not store.leave_device()
    ids = [store.add(embedding(memory, value)) for value in range(4)]
    store.get(ids[0])
    assert store.leave_device()
    assert places(store, ids) == "dhhd"
    assert [float(store.get(i).host_features()[0, 0]) for i in ids] == [0, 1, 2, 3]


def test_no_room_for_any_on_the_gpu(memory: Memory) -> None:
    store = ImageStore(Settings(device_cache_bytes=0), Metrics())
    ids = [store.add(embedding(memory, value)) for value in range(2)]
    assert places(store, ids) == "hh"
    assert memory.pool.out == 0


def test_a_gpu_that_breaks_down_loses_its_images_alone(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    store = ImageStore(Settings(device_cache_bytes=UNIT), Metrics())
    host = store.add(Embedding(np.ones((1, 8), np.float32), FRAME))
    store.add(embedding(memory, 0))
    memory.cuda.runtime.broken_down = 700
    broken = Embedding(memory_array(memory), FRAME)
    store.add(broken)
    assert "an image on the GPU was dropped" in caplog.text
    assert len(store) == 2
    assert store.get(host)
    memory.cuda.runtime.broken_down = 0


def memory_array(memory: Memory) -> Any:
    """An array that needed no call of CUDA."""
    from samtrt.cuda.memory import CudaArray

    return CudaArray(memory, 1 << 50, (1, UNIT // 4), np.dtype(np.float32), None)


def test_an_upload_to_a_full_gpu_makes_room(
    monkeypatch: pytest.MonkeyPatch, fake_directory: Path
) -> None:
    """The GPU has as much memory as the engines and three embeddings take."""
    fake = fake_tensorrt.install(monkeypatch)
    fake_tensorrt.write_engines(fake_directory)
    options = BackendOptions(device="cuda", pixels=PixelWork.HOST)
    with Predictor.load(fake_directory, BackendName.TENSORRT, options) as predictor:
        scheduler = Scheduler(predictor, Settings(), Metrics())
        images = [prepare(random_image(40, 60, seed=i), predictor.manifest) for i in range(8)]
        size = predictor.encode(random_image(40, 60)).features.nbytes
        fake.memory = fake.used + 2 * size  # one block is idle
        ids = []
        for image in images:
            (made,) = scheduler._encode([image])
            assert isinstance(made.features, DeviceArray)
            ids.append(scheduler.store.add(made))
            del made
        on_device = [i for i in ids if scheduler.store._images[i].on_device]
        assert 1 <= len(on_device) <= 3
        reference = fake_predictor(predictor.manifest)
        for i, image_id in enumerate(ids):
            found = scheduler.store.get(image_id).host_features().copy()
            wanted = reference.encode(random_image(40, 60, seed=i)).features
            np.testing.assert_array_equal(found, wanted)
        for image_id in ids:
            scheduler.store.remove(image_id)
        kept = [predictor.encode(random_image(40, 60)) for _ in range(3)]
        with pytest.raises(DeviceMemoryError, match="out of memory"):
            scheduler._encode(images[:1])  # full of what is not the store's
        kept.clear()
        scheduler.close()
    fake_tensorrt.check_left_clean(fake)
