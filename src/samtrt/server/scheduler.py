"""Between the routes and the predictor: queues, threads and the cache of embeddings.

All work runs in threads; the coroutines here only wait for it.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from samtrt.encoding import Prepared, batch_limit, encode_together, prepare
from samtrt.errors import BackendError, DeviceMemoryError, PromptError
from samtrt.images import Limits, decode_image
from samtrt.predictor import Predictor
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import DecoderPrompts
from samtrt.server.batching import Admission, BatchQueue
from samtrt.server.errors import ApiError
from samtrt.server.masks_io import read_prompt, write_candidate
from samtrt.server.metrics import Metrics
from samtrt.server.schemas import Candidate, MasksRequest
from samtrt.server.settings import FORMATS, Settings
from samtrt.server.store import ImageStore
from samtrt.types import Embedding

P = ParamSpec("P")
T = TypeVar("T")
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DecodeJob:
    embedding: Embedding
    prompts: DecoderPrompts


class Scheduler:
    """One predictor, shared by all requests."""

    def __init__(self, predictor: Predictor, settings: Settings, metrics: Metrics) -> None:
        self.predictor = predictor
        self.settings = settings
        self.metrics = metrics
        self.store = ImageStore(settings, metrics)
        self.uploads = Admission("uploads", settings.upload_slots, metrics)
        self.prompts = Admission("prompts", settings.prompt_slots, metrics)
        self.autos = Admission("automatic mask runs", settings.auto_slots, metrics)
        self.pool = ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1), "work")
        self.auto_pool = ThreadPoolExecutor(1, "auto")
        self._encodes: BatchQueue[Prepared, Embedding] = BatchQueue(
            self._encode, batch_limit(predictor.encoder, settings.encode_batch), 1, "encode"
        )
        self._decodes: BatchQueue[DecodeJob, tuple[Logits, Logits]] = BatchQueue(
            self._decode, predictor.prompts_per_run, settings.decode_workers, "decode"
        )
        self._gains_from_batches = predictor.decoder.device != "cpu"

    def close(self) -> None:
        """Finish the work that was taken, then free everything."""
        self._encodes.close()
        self._decodes.close()
        self.pool.shutdown()
        self.auto_pool.shutdown(cancel_futures=True)
        self.store.close()

    async def in_pool(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread; cancelling takes it out of the queue if it waits."""
        return await asyncio.wrap_future(self.pool.submit(work, *args, **kwargs))

    async def add_image(self, data: bytes) -> tuple[str, Embedding, float]:
        """Encode a picture's bytes. Returns its id, its embedding and the encoder's seconds."""
        prepared = await self.in_pool(self._prepare, data)
        start = time.perf_counter()
        embedding = await asyncio.wrap_future(self._encodes.submit(prepared))
        seconds = time.perf_counter() - start
        return await self.in_pool(self.store.add, embedding), embedding, seconds

    async def answer(
        self, image_id: str, request: MasksRequest
    ) -> tuple[list[list[Candidate]], float]:
        """Answer every prompt of a request: candidates by prompt, and the decoder's seconds."""
        embedding, groups = await self.in_pool(self._read_request, image_id, request)
        start = time.perf_counter()
        futures = [
            asyncio.wrap_future(
                self._decodes.submit(
                    DecodeJob(embedding, prompts), self._key(image_id, prompts), len(prompts)
                )
            )
            for _, prompts in groups
        ]
        decoded = await asyncio.gather(*futures)
        seconds = time.perf_counter() - start

        left = threading.Event()
        try:
            results: dict[int, list[Candidate]] = {}
            for (indexes, _), (logits, scores) in zip(groups, decoded, strict=True):
                written = await self.in_pool(
                    self._write, logits, scores, embedding.frame, request, left
                )
                results.update(zip(indexes, written, strict=True))
        except asyncio.CancelledError:
            left.set()
            raise
        return [results[i] for i in sorted(results)], seconds

    def _prepare(self, data: bytes) -> Prepared:
        check_picture(data, self.settings.max_pixels)
        limits = Limits(formats=FORMATS, max_pixels=self.settings.max_pixels)
        image = decode_image(data, "the image", limits)
        return prepare(image, self.predictor.manifest)

    def _encode(self, jobs: Sequence[Prepared]) -> list[Embedding]:
        self.metrics.batch_size.labels("encoder").observe(len(jobs))
        with self.metrics.batch_seconds.labels("encoder").time():
            try:
                return encode_together(self.predictor.encoder, jobs)
            except DeviceMemoryError:
                if not self.store.leave_device():
                    raise
            return encode_together(self.predictor.encoder, jobs)

    def _key(self, image_id: str, prompts: DecoderPrompts) -> object:
        """Jobs with equal keys may share a decoder call: same image, same number of points."""
        if not self._gains_from_batches:
            return object()
        return image_id, prompts.point_coords.shape[1]

    def _decode(self, jobs: Sequence[DecodeJob]) -> list[tuple[Logits, Logits]]:
        merged = DecoderPrompts.joined([job.prompts for job in jobs])
        with self.metrics.batch_seconds.labels("decoder").time():
            logits, scores = self.predictor.decode(jobs[0].embedding, merged)
        self.metrics.batch_size.labels("decoder").observe(len(merged))
        if not np.isfinite(scores).all():
            raise BackendError("the decoder gave scores that are not numbers")
        ends = np.cumsum([len(job.prompts) for job in jobs])[:-1]
        return list(zip(np.split(logits, ends), np.split(scores, ends), strict=True))

    def _read_request(
        self, image_id: str, request: MasksRequest
    ) -> tuple[Embedding, list[tuple[list[int], DecoderPrompts]]]:
        """Look the image up and encode the prompts, grouped by their number of points."""
        embedding = self.store.get(image_id)
        most = self.predictor.decoder.inputs["point_coords"].max_shape
        groups: dict[int, list[tuple[int, DecoderPrompts]]] = {}
        for index, prompt in enumerate(request.prompts):
            if len(prompt.points or ()) > self.settings.max_points:
                raise PromptError(
                    f"prompt {index} has {len(prompt.points or ())} points; the server takes "
                    f"{self.settings.max_points}"
                )
            encoded = read_prompt(prompt, embedding.frame)
            count = encoded.point_coords.shape[1]
            if most and count > most[1]:
                raise PromptError(
                    f"prompt {index} comes to {count} points and this model takes "
                    f"{most[1]}, where a box counts as two and a missing one as one"
                )
            groups.setdefault(count, []).append((index, encoded))
        return embedding, [
            (
                [index for index, _ in group],
                DecoderPrompts.joined([prompts for _, prompts in group]),
            )
            for group in groups.values()
        ]

    def _write(
        self,
        logits: Logits,
        scores: Logits,
        frame: Frame,
        request: MasksRequest,
        left: threading.Event,
    ) -> list[list[Candidate]]:
        """Write the candidates of each prompt; stop early once nobody waits for them."""
        threshold = self.predictor.manifest.mask_threshold
        return [
            [
                write_candidate(masks[i], float(ious[i]), frame, threshold, request)
                for i in _chosen(ious, request)
                if not left.is_set()
            ]
            for masks, ious in zip(logits, scores, strict=True)
        ]


def _chosen(scores: Logits, request: MasksRequest) -> list[int]:
    """Pick among the decoder's four masks: 0 is the single one, 1..3 whole, part and subpart."""
    wanted = {1: [0], 3: [1, 2, 3], 4: [0, 1, 2, 3]}[request.candidates]
    return [max(wanted, key=lambda i: scores[i])] if request.best_only else wanted


def check_picture(data: bytes, max_pixels: int) -> None:
    """Read the header alone and refuse what is no picture (415) or too large (413)."""
    if not data:
        raise ApiError(422, "the request has no image: its body is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
    except UnidentifiedImageError:
        names = ", ".join(FORMATS)
        raise ApiError(415, f"this is not an image of a known format ({names})") from None
    except Image.DecompressionBombError:
        raise ApiError(413, f"the image has more than {max_pixels:,} pixels") from None
    except (OSError, SyntaxError, ValueError):
        return  # `decode_image` says what is damaged
    if width * height > max_pixels:
        raise ApiError(
            413, f"the image has {width} x {height} pixels, more than the limit of {max_pixels:,}"
        )
