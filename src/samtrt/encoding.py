"""From images to embeddings: prepared in threads, ahead of the encoder, and encoded together.

Reading a photograph and bringing it to the encoder's size takes a core several times as long as a
GPU takes to encode it, so that other threads prepare the next images meanwhile.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from samtrt.backends.base import Backend
from samtrt.cuda.memory import Memory, joined
from samtrt.errors import ImageError, SamtrtError
from samtrt.manifest import Manifest
from samtrt.preparation import cuda, host
from samtrt.preparation.frame import Frame
from samtrt.types import DeviceArray, Embedding, Tensor, UInt8Array

T = TypeVar("T")
R = TypeVar("R")

Image = UInt8Array | DeviceArray
"""uint8 [H, W, 3]; also any array on a GPU that has DLPack or the CUDA array interface."""

MOST_WORKERS = 8


@dataclass(frozen=True)
class Prepared:
    """An image ready for the encoder.

    Attributes:
        pixels: float32 [1, 3, S, S], resized, normalised and padded.
        frame: Where the image lies in the square of prompts and masks.
    """

    pixels: Tensor
    frame: Frame


def prepare(
    image: Image, model: Manifest, image_format: str = "RGB", memory: Memory | None = None
) -> Prepared:
    """Prepare an image, uint8 [H, W, 3], for a model's encoder.

    Args:
        image: On the host or, where there is `memory`, on its GPU.
        model: Whose encoder.
        image_format: "RGB" or "BGR".
        memory: Of the GPU to prepare it on; None for the host.

    Raises:
        ImageError: where it is not such an array, or `image_format` is neither.
    """
    if memory is not None and not isinstance(image, np.ndarray):
        image = cuda.adopt(image, memory)
    else:
        image = host.check_image(image)
    if image_format not in ("RGB", "BGR"):
        raise ImageError(f"image_format must be 'RGB' or 'BGR', not '{image_format}'")
    size, is_bgr = (image.shape[0], image.shape[1]), image_format == "BGR"
    frame, inside = model.frame(size), model.input_frame(size)
    if memory is not None:
        pixels = cuda.preprocess(image, inside, model.preparation, memory, is_bgr)
        return Prepared(pixels, frame)
    assert isinstance(image, np.ndarray)
    return Prepared(
        host.preprocess(image[..., ::-1] if is_bgr else image, inside, model.preparation), frame
    )


def encode_together(encoder: Backend, images: Sequence[Prepared]) -> list[Embedding]:
    """Encode images in one run. Features stay where the encoder left them."""
    pixels = joined([image.pixels for image in images])
    maps = encoder.run({"images": pixels}, on_host=False)
    if len(images) == 1:
        return [Embedding.of(maps, images[0].frame)]
    # Rows by a list are copies, so that an image that is dropped frees its part of the batch.
    return [
        Embedding.of({name: one[[i]] for name, one in maps.items()}, image.frame)
        for i, image in enumerate(images)
    ]


def batch_limit(encoder: Backend, wanted: int) -> int:
    """Return how many images an encoder takes in one run, at most `wanted` where it may choose."""
    info = encoder.inputs["images"]
    if isinstance(info.shape[0], int):
        return info.shape[0]
    return min(wanted, info.max_shape[0]) if info.max_shape else wanted


def encode_each(
    encoder: Backend, model: Manifest, items: Iterable[T], read: Callable[[T], Image] | None
) -> Iterator[tuple[T, Embedding | SamtrtError]]:
    """Read, prepare and encode; `Predictor.encode_many` says the rest."""

    def work(item: Any) -> Prepared:
        return prepare(read(item) if read else item, model, memory=encoder.memory)

    on_cpu = encoder.device == "cpu"
    # On a CPU the encoder has all cores, and several images at once take as long as one by one.
    workers = 1 if on_cpu else min(MOST_WORKERS, os.cpu_count() or 1)
    together = batch_limit(encoder, 1 if on_cpu else MOST_WORKERS)
    with closing(in_order(items, work, workers, workers + together)) as ready:
        while group := list(islice(ready, together)):
            prepared = [_result(future) for _, future in group]
            images = [image for image in prepared if isinstance(image, Prepared)]
            embeddings = iter(_encode_apart(encoder, images))
            for (item, _), image in zip(group, prepared, strict=True):
                yield item, next(embeddings) if isinstance(image, Prepared) else image


def _encode_apart(
    encoder: Backend, images: Sequence[Prepared]
) -> Sequence[Embedding | SamtrtError]:
    """Encode images together or, where that fails, one by one: only some of them may be why."""
    try:
        return encode_together(encoder, images) if images else ()
    except SamtrtError as error:
        if len(images) == 1:
            return [error]
    return [one for image in images for one in _encode_apart(encoder, [image])]


def _result(future: Future[Prepared]) -> Prepared | SamtrtError:
    try:
        return future.result()
    except SamtrtError as error:
        return error
    except MemoryError:
        return ImageError("the image takes more memory than there is; make it smaller")


def in_order(
    items: Iterable[T], work: Callable[[T], R], workers: int, ahead: int
) -> Generator[tuple[T, Future[R]], None, None]:
    """Do `work` in threads, `ahead` items before they are asked for; yield them as they came.

    Each item comes with its future, whose `result` waits and raises what `work` raised. What was
    not begun when the iterator is closed is left undone.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(workers, "prepare")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
        # The last ones are out but perhaps not begun: they are waited for, not cancelled.
        pool.shutdown()
    finally:
        pool.shutdown(cancel_futures=True)
