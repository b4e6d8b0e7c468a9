"""Automatic masks for one request, stopped when nobody waits for them any more."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.automatic.remote import describe
from samtrt.registry import MaskThresholds
from samtrt.server.errors import ApiError, ClientLeftError
from samtrt.server.masks_io import formed_size
from samtrt.server.reading import parse_json
from samtrt.server.scheduler import Scheduler
from samtrt.server.schemas import AutoMask, AutoRequest
from samtrt.server.waiting import result_of, run_in
from samtrt.types import Embedding, Size

BYTES_A_PIXEL = 4
"""Memory to form one mask, at most, for each of the threads that do."""
BYTES_A_CLEANED_PIXEL = 12
"""Memory to remove a mask's small regions."""


Found = tuple[list[AutoMask], MaskThresholds]
"""Masks, best first, and what they had to reach."""


async def run_auto(scheduler: Scheduler, image_id: str, body: bytes) -> Found:
    """Find all masks of an image in a thread of its own.

    No crops: they would need the image's pixels, and the server keeps embeddings alone.
    """
    request = AutoRequest()
    if body:
        with scheduler.parses.admit():
            request = await run_in(
                scheduler.quick, parse_json, AutoRequest, body, scheduler.settings
            )
    with scheduler.autos.admit():
        embedding = await scheduler.get(image_id)
        left = threading.Event()
        formed = _formed(embedding, request)
        async with scheduler.memory.hold(_memory(formed, request)):
            future = scheduler.auto_pool.submit(
                _work, scheduler, formed, embedding.original_size, request, left
            )
            return await result_of(future, left)


def _formed(embedding: Embedding, request: AutoRequest) -> Embedding:
    """Return the embedding as of an image of the size that masks are asked for in.

    The grid, the masks and their boxes are then in that size's pixels.
    """
    size = formed_size(embedding.original_size, request.longest_side)
    return replace(embedding, frame=replace(embedding.frame, original=size))


def _memory(embedding: Embedding, request: AutoRequest) -> int:
    height, width = embedding.original_size
    forming = BYTES_A_PIXEL * min(16, os.cpu_count() or 1)
    cleaned = request.min_mask_region_area > 0 or request.specks > 0
    return height * width * max(forming, BYTES_A_CLEANED_PIXEL * cleaned)


def _work(
    scheduler: Scheduler,
    embedding: Embedding,
    original: Size,
    request: AutoRequest,
    left: threading.Event,
) -> Found:
    room = scheduler.settings.max_answer_bytes

    def check() -> None:
        if left.is_set():
            raise ClientLeftError

    check()
    options = request.model_dump(exclude={"longest_side"})
    generator = AutomaticMaskGenerator(scheduler.predictor, output_mode="coco_rle", **options)
    scale = original[1] / embedding.original_size[1], original[0] / embedding.original_size[0]
    answers = []
    for record in generator.generate(embedding, check=check):
        check()
        answers.append(AutoMask.model_validate(describe(record, scale)))
        room -= len(answers[-1].rle.counts) + 200
        if room < 0:
            raise ApiError(
                413,
                "the answer has more than the limit of "
                f"{scheduler.settings.max_answer_bytes:,} bytes: ask for fewer points",
            )
    return answers, generator.thresholds
