"""The TensorRT backend on stand-ins for TensorRT and CUDA that notice races, leaks and misuse."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracle import random_image

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

import fake_tensorrt
from fake_cuda_streams import Cuda
from rtx_cases import needs_rtx
from samtrt import trt_api
from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, Target
from samtrt.errors import BackendError, EngineError, SamtrtError
from samtrt.predictor import Predictor
from samtrt.prompts import build_prompts
from samtrt.types import DeviceArray

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.fixture
def directory(fake_directory: Path) -> Path:
    """A model directory with engines for up to 4 prompts of 6 points."""
    fake_tensorrt.write_engines(fake_directory)
    return fake_directory


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """A GPU for one test, after which nothing may be left in it."""
    fake = fake_tensorrt.install(monkeypatch, devices=2)
    yield fake
    trt_api.load_api.cache_clear()
    gc.collect()
    assert fake.faults == []
    assert not fake.live()


def load(directory: Path, device: str = "cuda") -> Predictor:
    return Predictor.load(directory, BackendName.TENSORRT, BackendOptions(device=device))


def expected(directory: Path) -> Predictor:
    return Predictor.load(directory, BackendName.FAKE)


def boxes(count: int, seed: int = 0) -> np.ndarray:
    corners = np.random.default_rng(seed).integers(0, 50, (count, 2))
    return np.concatenate([corners, corners + 60], axis=1)


def same(got: Any, wanted: Any) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_gives_what_the_engine_computes(directory: Path, picture: np.ndarray) -> None:
    reference = expected(directory)
    with load(directory) as predictor:
        for one in (predictor, reference):
            one.set_image(picture)
        np.testing.assert_array_equal(
            predictor.get_image_embedding(), reference.get_image_embedding()
        )
        for arguments in (
            {"boxes": boxes(3)},
            {"boxes": boxes(4, seed=1)},
            {"boxes": boxes(11)},  # more than the profile takes: in parts
            {"point_coords": [[[60, 50], [10, 10]]], "point_labels": [[1, 0]]},
            {"mask_input": np.full((2, 1, 64, 64), 3.0)},
            {"boxes": boxes(2), "mask_input": np.full((2, 1, 64, 64), 3.0)},
            {"boxes": boxes(2)},
        ):
            same(predictor.predict_batch(**arguments), reference.predict_batch(**arguments))
        assert (predictor.encoder.name, predictor.encoder.device) == ("tensorrt", "cuda:0")


@pytest.mark.parametrize("chosen", [[], [0], [3, 4, 5], [1, 2, 5, 9, 10, 11], [7, 3, 3]])
def test_only_the_rows_asked_for_come_back(
    directory: Path, picture: np.ndarray, chosen: list[int]
) -> None:
    with load(directory) as predictor:
        embedding, decoder = predictor.encode(picture), predictor.decoder
        size = predictor.manifest.image_size
        prompts = build_prompts(picture.shape[:2], size, 64, boxes=boxes(3)).part(0, 3)
        feeds = {"image_embeddings": embedding.features, **prompts}
        whole = decoder.run(feeds)
        others, rows = decoder.run_selected(feeds, "low_res_masks", lambda _: np.array(chosen, int))
        assert others.keys() == {"iou_predictions"}
        np.testing.assert_array_equal(others["iou_predictions"], whole["iou_predictions"])
        np.testing.assert_array_equal(rows, whole["low_res_masks"].reshape(12, 64, 64)[chosen])
        del embedding, feeds


def test_rows_keep_their_memory_until_they_are_dropped(
    cuda: Cuda, directory: Path, picture: np.ndarray
) -> None:
    with load(directory) as predictor:
        embedding, decoder = predictor.encode(picture), predictor.decoder
        size = predictor.manifest.image_size

        def rows(seed: int, features: Any = embedding.features) -> np.ndarray:
            prompts = build_prompts(picture.shape[:2], size, 64, boxes=boxes(3, seed)).part(0, 3)
            feeds = {"image_embeddings": features, **prompts}
            return decoder.run_selected(feeds, "low_res_masks", lambda _: np.array([1, 5, 6]))[1]

        first = rows(0)
        before, part = first.copy(), rows(1)[1:]
        np.testing.assert_array_equal(first, before)
        assert not np.array_equal(first[1:], part)
        pinned = cuda.live()["pinned"]
        del first
        again = rows(0)  # in the block that came back
        np.testing.assert_array_equal(again, before)
        assert cuda.live()["pinned"] == pinned
        part_before = part.copy()
        del embedding, rows
    np.testing.assert_array_equal(part, part_before)  # also after the engine is closed
    del part
    assert cuda.live()["pinned"] == 1
    del again
    assert not cuda.live()["pinned"]


def test_embeddings_stay_on_the_gpu(directory: Path, picture: np.ndarray) -> None:
    with load(directory) as predictor:
        embedding = predictor.encode(picture)
        assert isinstance(embedding.features, DeviceArray)
        assert embedding.features.shape == (1, 256, 16, 16)
        assert embedding.features.nbytes == embedding.host_features().nbytes == 256 * 256 * 4
        predictor.bind(embedding).predict(box=[10, 10, 60, 60])
        del embedding


def test_dropped_embeddings_leave_their_memory_to_the_next(cuda: Cuda, directory: Path) -> None:
    with load(directory) as predictor:
        first = predictor.encode(random_image(90, 120))
        held = cuda.used
        del first
        for seed in range(5):
            predictor.set_image(random_image(90, 120, seed=seed))
            predictor.predict(box=[10, 10, 60, 60])
        assert cuda.used <= held + 256 * 256 * 4  # the new one is made before the old one goes


def test_an_embedding_outlives_its_engine(cuda: Cuda, directory: Path, picture: np.ndarray) -> None:
    reference = expected(directory).encode(picture)
    with load(directory) as predictor:
        embedding = predictor.encode(picture)
    np.testing.assert_array_equal(embedding.host_features(), reference.features)
    assert cuda.live() == {"device": 1}
    del embedding


@pytest.mark.parametrize("count", [1, 3])
def test_runs_of_one_shape_become_a_graph(
    cuda: Cuda, directory: Path, picture: np.ndarray, count: int
) -> None:
    reference = expected(directory)
    reference.set_image(picture)
    with load(directory) as predictor:
        predictor.set_image(picture)
        for seed in range(6):
            prompts = boxes(count, seed)
            same(predictor.predict_batch(boxes=prompts), reference.predict_batch(boxes=prompts))
        replayed = cuda.calls["cudaGraphLaunch"]
        assert replayed >= 3
        # Another shape in between must not run the graph of the first.
        for number in (2, count, count, count, 2, 4):
            prompts = boxes(number, seed=number)
            same(predictor.predict_batch(boxes=prompts), reference.predict_batch(boxes=prompts))


def test_goes_on_where_nothing_can_be_recorded(
    cuda: Cuda, directory: Path, picture: np.ndarray
) -> None:
    reference = expected(directory)
    reference.set_image(picture)
    with load(directory) as predictor:
        predictor.set_image(picture)
        cuda.fail("cudaStreamEndCapture", 901)
        for seed in range(5):
            prompts = boxes(2, seed)
            same(predictor.predict_batch(boxes=prompts), reference.predict_batch(boxes=prompts))
        assert cuda.calls["cudaGraphLaunch"] == 0


def test_threads_share_the_engines(directory: Path) -> None:
    reference = expected(directory)
    images = [random_image(80 + 10 * i, 120, seed=i) for i in range(6)]

    def work(predictor: Predictor, i: int) -> list[Any]:
        bound = predictor.bind(predictor.encode(images[i]))
        out = [bound.predict_batch(boxes=boxes(1 + (i + k) % 4, seed=i)) for k in range(3)]
        return [bound.get_image_embedding(), *(array for batch in out for array in batch)]

    with load(directory) as predictor, ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: work(predictor, i), range(6)))
    for i, arrays in enumerate(got):
        same(arrays, work(reference, i))


def test_several_engines_and_gpus_in_one_process(directory: Path, picture: np.ndarray) -> None:
    reference = expected(directory)
    reference.set_image(picture)
    wanted = reference.predict_batch(boxes=boxes(3))
    with load(directory, "cuda:1") as second, load(directory) as first:
        assert second.decoder.device == "cuda:1"
        embedding = second.encode(picture)
        assert isinstance(embedding.features, DeviceArray)
        assert embedding.features.device == "cuda:1"
        with ThreadPoolExecutor(2) as pool:  # whose current GPU is 0
            jobs = [
                pool.submit(p.bind(embedding).predict_batch, None, None, boxes(3))
                for p in (second, first, second, first)
            ]
            for job in jobs:
                same(job.result(), wanted)
        del embedding


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
        pool = next(iter(predictor.encoder._pools.values()))

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
