"""Engines with plugins: the library beside them is registered before they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, PixelWork, Stage, Target
from samtrt.errors import BackendError, EngineError
from samtrt.manifest import FileEntry
from samtrt.predictor import Predictor
from samtrt.tensorrt.engine_files import record_path
from support import fake_tensorrt, plugin_cases
from support.samples import edit_sealed

LIBRARY = "samtrt_plugin.so"


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What happens, in order, to plugins and engines of one process."""
    happened: list[str] = []
    fake = fake_tensorrt.install(monkeypatch)
    load = fake_tensorrt.Runtime.deserialize_cuda_engine

    def deserialize(self: fake_tensorrt.Runtime, plan: bytes) -> object:
        happened.append("engine")
        return load(self, plan)

    monkeypatch.setattr(fake_tensorrt.Runtime, "deserialize_cuda_engine", deserialize)
    plugin_cases.install(monkeypatch, major=10, on_register=lambda: happened.append("plugins"))
    yield happened
    fake_tensorrt.check_left_clean(fake)


@pytest.fixture
def directory(fake_directory: Path) -> Path:
    """A model directory whose encoder has plugins."""
    fake_tensorrt.write_engines(fake_directory)
    give_plugin(fake_directory, b"library")
    return fake_directory


def give_plugin(directory: Path, content: bytes) -> None:
    library = directory / LIBRARY
    library.write_bytes(content)
    sidecar = record_path(directory, Stage.ENCODER, Target.TENSORRT)
    edit_sealed(sidecar, plugin=FileEntry.of(library).model_dump())


def load(directory: Path) -> Predictor:
    options = BackendOptions(device="cuda", pixels=PixelWork.HOST)
    return Predictor.load(directory, BackendName.TENSORRT, options)


def test_library_comes_before_the_engine_and_once(
    directory: Path, events: list[str], picture: np.ndarray
) -> None:
    for _ in range(2):
        with load(directory) as predictor:
            predictor.set_image(picture)
            predictor.predict(point_coords=[[10, 10]], point_labels=[1])
    assert events == ["plugins", "engine", "engine", "engine", "engine"]


@pytest.mark.parametrize("content", [None, b"LIBRARY"])
def test_library_that_is_missing_or_changed(
    directory: Path, events: list[str], content: bytes | None
) -> None:
    (directory / LIBRARY).unlink()
    if content is not None:
        (directory / LIBRARY).write_bytes(content)
    with pytest.raises(EngineError, match=r"samtrt_plugin\.so is .*build .* --plugin FILE"):
        load(directory)
    assert events == []


def test_library_for_another_tensorrt(
    directory: Path, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_cases.install(monkeypatch, major=8)
    with pytest.raises(BackendError, match=r"for TensorRT 8 and TensorRT 10\.0\.0 is running"):
        load(directory)
    assert events == []


def test_library_for_another_gpu(
    directory: Path, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_cases.install(monkeypatch, major=10, architectures=b"sm_80")
    with pytest.raises(BackendError, match=r"compiled for sm_80 and this GPU is Fake GPU"):
        load(directory)
    assert events == []


def test_second_directory_with_another_library(directory: Path, events: list[str]) -> None:
    load(directory).close()
    give_plugin(directory, b"another")
    with pytest.raises(BackendError, match="cannot be loaded beside"):
        load(directory)
    assert events == ["plugins", "engine", "engine"]
