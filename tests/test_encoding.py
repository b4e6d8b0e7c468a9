"""Many images to embeddings: in order, ahead of the encoder, together where it takes several."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.backends.fake import FakeBackend
from samtrt.choices import Stage
from samtrt.encoding import in_order
from samtrt.errors import ImageError
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from support.oracle import random_image

WAIT = 30.0
"""Seconds after which something that never comes is missing."""


@pytest.fixture
def predictor(fake_directory: Path) -> Iterator[Predictor]:
    with Predictor.load(fake_directory) as opened:
        yield opened


@pytest.fixture
def images() -> list[np.ndarray]:
    return [random_image(40 + seed, 90 - seed, seed) for seed in range(11)]


def check(predictor: Predictor, found: list[Any], images: list[np.ndarray]) -> None:
    assert len(found) == len(images)
    for (item, embedding), image in zip(found, images, strict=True):
        assert item is image
        alone = predictor.encode(image)
        np.testing.assert_array_equal(embedding.features, alone.features)
        assert embedding.original_size == alone.original_size == image.shape[:2]
        assert embedding.frame == alone.frame


def test_as_one_by_one(predictor: Predictor, images: list[np.ndarray]) -> None:
    check(predictor, list(predictor.encode_many(images)), images)
    assert list(predictor.encode_many([])) == []


def test_items_are_read_and_their_errors_come_in_their_place(
    predictor: Predictor, images: list[np.ndarray]
) -> None:
    def read(number: int) -> np.ndarray:
        return images[number] if number % 3 else images[number].astype(np.float32)

    for number, result in predictor.encode_many(range(len(images)), read):
        if number % 3:
            assert result.original_size == images[number].shape[:2]
        else:
            assert isinstance(result, ImageError)
            assert "uint8" in str(result)


def test_other_errors_end_it(predictor: Predictor) -> None:
    def read(path: str) -> np.ndarray:
        raise PermissionError(path)

    with pytest.raises(PermissionError, match="unreadable"):
        list(predictor.encode_many(["unreadable", "b.png"], read))


class Together(FakeBackend):
    """An encoder on a GPU that takes up to four images; notes how many came together."""

    device = "cuda:0"

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest.model_copy(update={"dynamic_batch": True}), Stage.ENCODER)
        self.runs: list[int] = []
        images = self.inputs["images"]
        most = (4, *images.shape[1:])
        self.inputs = {"images": type(images)(images.name, images.dtype, images.shape, most)}

    def _compute(self, feeds: Any) -> dict[str, Any]:
        self.runs.append(len(feeds["images"]))
        return super()._compute(feeds)


def test_an_encoder_that_takes_several_gets_them(
    predictor: Predictor, images: list[np.ndarray]
) -> None:
    encoder = Together(predictor.manifest)
    several = Predictor(encoder, predictor.decoder, predictor.manifest)
    found = list(several.encode_many(images))
    assert encoder.runs == [4, 4, 3]
    check(predictor, found, images)
    broken = [images[0], "no image", images[2], images[3], "nor this"]
    kinds = [isinstance(result, ImageError) for _, result in several.encode_many(broken)]
    assert kinds == [False, True, False, False, True]
    assert encoder.runs[3:] == [3]  # of four and of one, the second left nothing


def test_features_of_several_stay_on_the_gpu(
    predictor: Predictor, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")
    from support.on_device import on_device

    alike = images[:3]
    together = Predictor(Together(predictor.manifest), predictor.decoder, predictor.manifest)
    with on_device(monkeypatch, together) as (several, _):
        found = [embedding for _, embedding in several.encode_many(alike)]
        assert together.encoder.runs == [3]
        assert all(one.on_device for one in found)
        kept = found.pop()  # has memory of its own
        found.clear()
        wanted = predictor.encode(alike[2]).features
        np.testing.assert_array_equal(kept.host_features(), wanted)


def test_images_are_read_while_the_encoder_works(
    predictor: Predictor, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder waits, at its first image, until the second was read."""
    second, run = threading.Event(), predictor.encoder.run

    def waiting(feeds: Any, on_host: bool) -> Any:
        assert second.wait(WAIT)
        return run(feeds, on_host)

    def read(number: int) -> np.ndarray:
        if number == 1:
            second.set()
        return images[number]

    monkeypatch.setattr(predictor.encoder, "run", waiting)
    assert [number for number, _ in predictor.encode_many(range(4), read)] == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [1, 3])
def test_order_does_not_depend_on_who_is_first(workers: int) -> None:
    gate = threading.Event()

    def work(number: int) -> int:
        if number == 2:
            gate.set()
        if number == 0 and workers > 1:
            assert gate.wait(WAIT)  # done after 1 and 2
        return number * number

    found = [(n, future.result()) for n, future in in_order(range(9), work, workers, 3)]
    assert found == [(n, n * n) for n in range(9)]


def test_only_so_many_items_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    ready = in_order(items(), lambda number: number, 2, 5)
    for expected in range(4):
        assert next(ready)[0] == expected
        assert len(taken) <= expected + 6
    ready.close()
    assert len(taken) < 12


def test_what_was_not_begun_when_it_is_closed_is_left_undone() -> None:
    begun: list[int] = []
    started, leave = threading.Event(), threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        started.set()
        assert leave.wait(WAIT)

    ready = in_order(range(50), work, 1, 20)
    next(ready)
    assert started.wait(WAIT)
    threading.Timer(0.2, leave.set).start()
    ready.close()
    assert begun == [0]
