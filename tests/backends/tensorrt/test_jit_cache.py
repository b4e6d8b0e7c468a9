"""Kernels that TensorRT-RTX compiles at run time are kept, on a stand-in that counts them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, PixelWork, Target
from samtrt.errors import BackendError
from samtrt.predictor import Predictor
from samtrt.tensorrt import api as trt_api
from support import fake_tensorrt
from support.fake_cuda_streams import Cuda
from support.rtx_cases import needs_rtx
from support.trt_cases import boxes, expected, same

CudaGraphStrategy = Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
compiled: list[Any] = []
"""What was compiled since the test began."""


class IRuntimeCache:
    """Kernels by shape, as text; refuses what does not begin as its own."""

    def __init__(self) -> None:
        self.kernels: set[str] = set()

    def serialize(self) -> bytes:
        return ("kernels\n" + "\n".join(sorted(self.kernels))).encode()

    def deserialize(self, blob: bytes) -> bool:
        title, *kernels = bytes(blob).decode().split("\n")
        self.kernels |= set(kernels) if title == "kernels" else set()
        return title == "kernels"


class IRuntimeConfig:
    def __init__(self) -> None:
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.cache: IRuntimeCache | None = None

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = cache
        return True


class Context(fake_tensorrt.IExecutionContext):
    config: IRuntimeConfig

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self.config.cache is not None
        assert self.config.cuda_graph_strategy is CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if self._cuda.stream(stream_handle).capture is not None:
            self._cuda.faults.append("recorded while kernels may still be compiled")
        kernel = str(sorted(self._shapes.items()))
        if kernel not in self.config.cache.kernels:
            compiled.append(kernel)
            self.config.cache.kernels.add(kernel)
        return super().execute_async_v3(stream_handle)


class Engine(fake_tensorrt.ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config: IRuntimeConfig) -> Any:
        context = super().create_execution_context()
        if context is not None:
            context.__class__, context.config = Context, runtime_config
        return context


class Runtime(fake_tensorrt.Runtime):
    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        engine = super().deserialize_cuda_engine(serialized_engine)
        if engine is not None:
            engine.__class__ = Engine
        return engine


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cuda]:
    """A GPU and TensorRT-RTX 1.7.1 on it, with an empty cache of its own."""
    fake = fake_tensorrt.install(monkeypatch, "tensorrt_rtx", Runtime)
    module = sys.modules["tensorrt_rtx"]
    module.CudaGraphStrategy, module.IRuntimeCache = CudaGraphStrategy, IRuntimeCache
    monkeypatch.setattr(trt_api, "preload_rtx", lambda: None)
    monkeypatch.setattr(trt_api, "_library_version", lambda *_: (10, 0, 0))
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path / "cache"))
    compiled.clear()
    yield fake
    fake_tensorrt.check_left_clean(fake)


@pytest.fixture
def directory(fake_directory: Path) -> Path:
    fake_tensorrt.write_engines(fake_directory, target=Target.TENSORRT_RTX)
    return fake_directory


def run(directory: Path, picture: np.ndarray) -> int:
    """Use the engines as a process would; return how many kernels had to be compiled."""
    before = len(compiled)
    options = BackendOptions(device="cuda", pixels=PixelWork.HOST)
    reference = expected(directory)
    with Predictor.load(directory, BackendName.TENSORRT_RTX, options) as predictor:
        for one in (predictor, reference):
            one.set_image(picture)
        for count in (1, 1, 1, 3, 1):
            arguments = {"boxes": boxes(count)}
            same(predictor.predict_batch(**arguments), reference.predict_batch(**arguments))
    return len(compiled) - before


def stored(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "tensorrt-rtx").glob("*"))


@pytest.mark.usefixtures("cuda")
def test_the_next_process_compiles_nothing(
    directory: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    assert run(directory, picture) == 3  # the encoder, one prompt, three prompts
    assert len(stored(tmp_path)) == 2
    assert all(path.name.endswith("-10.0.0-fake-gpu.jit") for path in stored(tmp_path))
    assert run(directory, picture) == 0


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("damage", [b"", b"of another driver\nand more"])
def test_a_cache_that_is_refused_is_replaced(
    directory: Path, picture: np.ndarray, tmp_path: Path, damage: bytes
) -> None:
    run(directory, picture)
    good = [path.read_bytes() for path in stored(tmp_path)]
    for path in stored(tmp_path):
        path.write_bytes(damage)
    assert run(directory, picture) == 3
    assert [path.read_bytes() for path in stored(tmp_path)] == good


@pytest.mark.usefixtures("cuda")
def test_unchanged_kernels_are_not_written_again(
    directory: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    run(directory, picture)
    before = [path.stat().st_mtime_ns for path in stored(tmp_path)]
    run(directory, picture)
    assert [path.stat().st_mtime_ns for path in stored(tmp_path)] == before


@pytest.mark.usefixtures("cuda")
def test_a_place_that_cannot_be_written_costs_time_alone(
    directory: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert run(directory, picture) == run(directory, picture) == 3


@pytest.mark.parametrize("memory", [1_000_000, 2_000_000, 3_000_000, 4_000_000])
def test_engines_that_find_no_room_leave_nothing(
    directory: Path, picture: np.ndarray, cuda: Cuda, memory: int
) -> None:
    cuda.memory = memory
    with pytest.raises(BackendError, match="memory"):
        run(directory, picture)


@needs_rtx
def test_the_stand_in_is_as_the_real_library() -> None:
    trt_api.load_api.cache_clear()
    real = trt_api.load_api(Target.TENSORRT_RTX).trt
    for ours in (IRuntimeCache, IRuntimeConfig, CudaGraphStrategy):
        names = {name for name in vars(ours) if not name.startswith("_")}
        assert names <= set(dir(getattr(real, ours.__name__))), ours
    assert hasattr(real.IRuntimeConfig, "cuda_graph_strategy")
    assert "runtime_config: " in real.ICudaEngine.create_execution_context.__doc__
    assert hasattr(real.ICudaEngine, "create_runtime_config")
