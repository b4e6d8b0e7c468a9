"""The TensorRT backend where calls fail, memory ends, GPUs break down or do not fit."""

from __future__ import annotations

import gc
import re
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.choices import Target
from samtrt.errors import BackendError, EngineError, SamtrtError
from samtrt.predictor import Predictor
from samtrt.tensorrt import api as trt_api
from support import fake_tensorrt
from support.fake_cuda_streams import Cuda
from support.rtx_cases import needs_rtx
from support.trt_cases import boxes, expected, load, same

pytestmark = pytest.mark.usefixtures("cuda")


def test_prompts_beyond_the_profile(directory: Path, picture: np.ndarray) -> None:
    with load(directory) as predictor:
        assert predictor.prompts_per_run == 4
        predictor.set_image(picture)
        points = {"point_coords": np.ones((1, 9, 2)), "point_labels": np.ones((1, 9))}
        with pytest.raises(BackendError, match=r"9 points|10 points") as caught:
            predictor.predict_batch(**points)
        assert re.search(
            r"takes 0 to 6; build another with: samtrt build .* --points", str(caught.value)
        )
        predictor.predict(box=[10, 10, 60, 60])


def test_closing_twice_and_running_after(directory: Path, picture: np.ndarray) -> None:
    predictor = load(directory)
    predictor.close()
    predictor.close()
    with pytest.raises(BackendError, match="closed"):
        predictor.encode(picture)


CALLS = [
    "cudaSetDevice",
    "cudaMalloc",
    "cudaHostAlloc",
    "cudaMallocHost",
    "cudaStreamCreate",
    "cudaEventCreate",
    "cudaMemcpyAsync",
    "cudaStreamBeginCapture",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
    "cudaGraphLaunch",
    "execute_async_v3",
]


@pytest.mark.parametrize("name", CALLS)
def test_any_call_may_fail(cuda: Cuda, directory: Path, picture: np.ndarray, name: str) -> None:
    """Fail the first, second, ... call of a kind: one clear error, and what opened works again."""
    reference = expected(directory)
    reference.set_image(picture)
    wanted = reference.predict_batch(boxes=boxes(2))

    def use(predictor: Predictor) -> None:
        predictor.set_image(picture)
        for _ in range(3):
            same(predictor.predict_batch(boxes=boxes(2)), wanted)

    with load(directory) as predictor:
        use(predictor)
    calls = cuda.calls[name]
    for nth in range(calls):
        cuda.fail(name, 2, after=nth)
        predictor = None
        try:
            with pytest.raises(SamtrtError) as caught:
                predictor = load(directory)
                use(predictor)
                cuda.failing.pop(name, None)
                raise SamtrtError("done without: CUDA")
            assert "\n" not in str(caught.value)
            assert "CUDA" in str(caught.value) or "GPU" in str(caught.value)
            del caught
            if predictor is not None:
                use(predictor)
        finally:
            if predictor is not None:
                predictor.close()
        del predictor
        gc.collect()
        assert not cuda.live(), f"call {nth} of {name}"


def test_out_of_memory_says_how_much(cuda: Cuda, directory: Path, picture: np.ndarray) -> None:
    with load(directory) as predictor:
        kept = [predictor.encode(picture)]
        cuda.memory = cuda.used
        with pytest.raises(BackendError, match=r"out of memory: 0 MB more are needed, 0 MB of"):
            kept.append(predictor.encode(picture))
        same(
            predictor.bind(kept[0]).predict_batch(boxes=boxes(2)),
            bound(directory, picture).predict_batch(boxes=boxes(2)),
        )
        kept.clear()
        kept.append(predictor.encode(picture))
        kept.clear()


def bound(directory: Path, picture: np.ndarray) -> Predictor:
    predictor = expected(directory)
    predictor.set_image(picture)
    return predictor


@pytest.mark.parametrize("room", range(0, 6_000_000, 750_000))
def test_too_little_memory_for_the_engines(cuda: Cuda, directory: Path, room: int) -> None:
    cuda.memory = room
    with pytest.raises(BackendError, match=r"out of memory|could not be allocated"):
        load(directory)
    gc.collect()
    assert not cuda.live()


@pytest.mark.parametrize(
    ("status", "words"),
    [(35, "no NVIDIA driver, or it is older"), (100, "no GPU that CUDA can see")],
)
def test_no_gpu(cuda: Cuda, directory: Path, status: int, words: str) -> None:
    cuda.fail("cudaGetDeviceCount", status)
    with pytest.raises(BackendError, match=words):
        load(directory)


@pytest.mark.parametrize("device", ["cpu", "gpu", "cuda:", "cuda:x"])
def test_devices_that_are_no_gpu(directory: Path, device: str) -> None:
    with pytest.raises(BackendError, match="use --device cuda or cuda:N"):
        load(directory, device)


def test_gpu_that_is_not_there(directory: Path) -> None:
    with pytest.raises(BackendError, match="there is no GPU 2"):
        load(directory, "cuda:2")


def test_engine_for_another_gpu(directory: Path) -> None:
    fake_tensorrt.write_engines(directory, gpu="NVIDIA L4")
    with pytest.raises(EngineError, match=r"built for NVIDIA L4 .* this GPU is Fake GPU"):
        load(directory)


def test_engine_that_the_library_refuses(directory: Path) -> None:
    fake_tensorrt.write_engines(directory, plan=b"ftrt of another kind")
    with pytest.raises(EngineError, match=r"cannot load .*: Serialized engine is corrupt"):
        load(directory)


def test_a_gpu_that_breaks_down(cuda: Cuda, directory: Path, picture: np.ndarray) -> None:
    """After an illegal access CUDA answers every call with an error: closing must not."""
    predictor = load(directory)
    embedding = predictor.encode(picture)
    cuda.broken_down = 700
    for run in (lambda: predictor.encode(picture), embedding.host_features):
        with pytest.raises(BackendError, match="CUDA error 700"):
            run()
    predictor.close()
    with pytest.raises(BackendError, match="closed"):
        predictor.encode(picture)
    del embedding, run
    gc.collect()
    cuda.forget()  # a process that cannot free its memory any more leaves it to the driver


def test_memory_may_come_back_at_any_moment(directory: Path, picture: np.ndarray) -> None:
    """The garbage collector frees embeddings in whatever thread, inside the pool's own code too."""
    with load(directory) as predictor:
        kept = [predictor.encode(picture)]
        pool = predictor.encoder._memory.pool

        def drop_inside() -> None:
            with pool._lock:
                kept.clear()

        thread = threading.Thread(target=drop_inside, daemon=True)
        thread.start()
        thread.join(5)
        stuck = thread.is_alive()
        if stuck:
            pool._lock.release()  # so that this test can end
        assert not stuck


def test_a_mask_that_is_not_read_may_hold_anything(tiny_model: Path) -> None:
    """Why `mask_input` is not copied where `has_mask_input` is 0: in the graph it is a choice."""
    pytest.importorskip("onnxruntime")
    with Predictor.load(tiny_model) as predictor:
        rng = np.random.default_rng(0)
        feeds = {
            "image_embeddings": rng.normal(size=(1, 256, 16, 16)),
            "point_coords": rng.uniform(0, 256, (2, 2, 2)),
            "point_labels": np.ones((2, 2)),
            "mask_input": np.zeros((2, 1, 64, 64)),
            "has_mask_input": np.zeros(2),
        }
        feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
        garbage = {**feeds, "mask_input": np.full((2, 1, 64, 64), np.nan, np.float32)}
        same(predictor.decoder.run(garbage).values(), predictor.decoder.run(feeds).values())


@needs_rtx
def test_the_stand_in_has_only_what_the_real_library_has() -> None:
    real = trt_api.load_api(Target.TENSORRT_RTX).trt
    for name in ("Runtime", "ICudaEngine", "IExecutionContext", "ILogger"):
        ours = {one for one in vars(getattr(fake_tensorrt, name)) if not one.startswith("_")}
        assert ours - {"cuda"} <= set(dir(getattr(real, name))), name
    for name in ("DataType", "TensorIOMode"):
        assert set(getattr(fake_tensorrt, name).__members__) <= set(getattr(real, name).__members__)
