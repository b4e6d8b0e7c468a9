"""The TensorRT backend on stand-ins for TensorRT and CUDA that notice races and leaks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.oracle import random_image

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.predictor import Predictor
from samtrt.preparation.prompts import build_prompts
from samtrt.types import DeviceArray, to_host
from support.fake_cuda_streams import Cuda
from support.trt_cases import boxes, expected, load, same

pytestmark = pytest.mark.usefixtures("cuda")


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
    cuda: Cuda, directory: Path, picture: np.ndarray, chosen: list[int]
) -> None:
    with load(directory) as predictor:
        embedding, decoder = predictor.encode(picture), predictor.decoder
        prompts = build_prompts(embedding.frame, boxes=boxes(3)).part(0, 3)
        feeds = {"image_embeddings": embedding.features, **prompts}
        whole = decoder.run(feeds)
        made = decoder.run(feeds, on_host=False)
        scores, masks = made["iou_predictions"], made["low_res_masks"]
        np.testing.assert_array_equal(to_host(scores), whole["iou_predictions"])
        before = cuda.copied_to_host
        rows = to_host(masks.reshape(-1, 64, 64)[np.array(chosen, int)])
        assert cuda.copied_to_host - before == rows.nbytes  # and not all of them
        np.testing.assert_array_equal(rows, whole["low_res_masks"].reshape(12, 64, 64)[chosen])
        del embedding, feeds, made, scores, masks


def test_rows_keep_their_memory_until_they_are_dropped(
    cuda: Cuda, directory: Path, picture: np.ndarray
) -> None:
    with load(directory) as predictor:
        embedding, decoder = predictor.encode(picture), predictor.decoder
        frame = embedding.frame

        def rows(seed: int, features: Any = embedding.features) -> np.ndarray:
            prompts = build_prompts(frame, boxes=boxes(3, seed)).part(0, 3)
            feeds = {"image_embeddings": features, **prompts}
            masks = decoder.run(feeds, on_host=False)["low_res_masks"]
            return to_host(masks.reshape(-1, 64, 64)[[1, 5, 6]])

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


def test_nothing_said_of_a_device_is_the_first_gpu(directory: Path) -> None:
    with Predictor.load(directory, "tensorrt") as predictor:
        assert predictor.encoder.device == predictor.decoder.device == "cuda:0"
