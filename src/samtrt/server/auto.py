"""Automatic masks for one request, stopped when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.masks.record import MaskRecord
from samtrt.server.errors import ClientLeftError
from samtrt.server.scheduler import Scheduler
from samtrt.server.schemas import AutoMask, AutoRequest, Rle


async def run_auto(scheduler: Scheduler, image_id: str, request: AutoRequest) -> list[AutoMask]:
    """Find all masks of an image, best first, in a thread of its own.

    No crops: they would need the image's pixels, and the server keeps embeddings alone.
    """
    embedding = await scheduler.in_pool(scheduler.store.get, image_id)
    left = threading.Event()

    def check(_: int, __: int) -> None:
        if left.is_set():
            raise ClientLeftError

    def work() -> list[AutoMask]:
        generator = AutomaticMaskGenerator(
            scheduler.predictor, output_mode="coco_rle", **request.model_dump()
        )
        return [_answer(record) for record in generator.generate(embedding, check)]

    try:
        return await asyncio.wrap_future(scheduler.auto_pool.submit(work))
    finally:
        left.set()


def _answer(record: MaskRecord) -> AutoMask:
    from pycocotools import mask as coco

    # The generator keeps the official width and height, which are one less than COCO's.
    bbox = [int(value) for value in coco.toBbox(record["segmentation"])]
    return AutoMask(
        rle=Rle.model_validate(record["segmentation"]),
        score=record["predicted_iou"],
        stability_score=record["stability_score"],
        area=record["area"],
        bbox=bbox,
        point=record["point_coords"][0],
    )
