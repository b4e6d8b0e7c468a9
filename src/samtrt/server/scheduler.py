"""Between the routes and the predictor: queues, threads, processes and the cache of embeddings.

All work runs in threads, and what is untrusted in processes; the coroutines here only wait for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from samtrt import tracing
from samtrt.choices import MaskChoice
from samtrt.decoding import choose_masks
from samtrt.encoding import Prepared, batch_limit, encode_together
from samtrt.errors import BackendError, DeviceMemoryError, PromptError
from samtrt.predictor import Predictor
from samtrt.preparation.prompts import DecoderPrompts
from samtrt.server.batching import Admission, BatchQueue
from samtrt.server.budget import Bodies, Budget
from samtrt.server.errors import ApiError
from samtrt.server.intake import Intake
from samtrt.server.masks_io import formed_size, read_prompt, write_candidate
from samtrt.server.metrics import Metrics
from samtrt.server.reading import parse_json
from samtrt.server.schemas import Candidate, MasksRequest
from samtrt.server.settings import Settings
from samtrt.server.store import ImageStore
from samtrt.server.waiting import result_of, run_in
from samtrt.types import Embedding, Tensor, to_host

T = TypeVar("T")
Logits = npt.NDArray[np.float32]

BYTES_A_FORMED_PIXEL = 6
"""Memory to bring one mask's logits to the image's size and encode it, at most."""


@dataclass(frozen=True)
class DecodeJob:
    embedding: Embedding
    prompts: DecoderPrompts


@dataclass(frozen=True)
class Decoded:
    """What the decoder answers to one prompt.

    Attributes:
        logits: [1, 4, M, M], where the decoder left them.
        scores: [4].
    """

    logits: Tensor
    scores: Logits


class Scheduler:
    """One predictor, shared by all requests. Its coroutines belong to one event loop."""

    def __init__(self, predictor: Predictor, settings: Settings, metrics: Metrics) -> None:
        self.predictor = predictor
        self.settings = settings
        self.metrics = metrics
        self.store = ImageStore(settings, metrics)
        self.uploads = Admission("uploads", settings.upload_slots, metrics)
        self.prompts = Admission("prompts", settings.prompt_slots, metrics)
        self.parses = Admission("requests", settings.parse_slots, metrics)
        self.autos = Admission("automatic mask runs", settings.auto_slots, metrics)
        self.bodies = Bodies(settings.body_bytes)
        self.answers = Bodies(settings.answer_bytes)
        self.memory = Budget(settings.memory_bytes)
        self.intake = Intake(predictor.manifest, settings, metrics, self.memory)
        # Apart, so that looking an image up never waits for masks of another that are formed.
        self.quick = ThreadPoolExecutor(4, "quick")
        self.forming = ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1), "form")
        self.auto_pool = ThreadPoolExecutor(1, "auto")
        self._encodes: BatchQueue[Prepared, Embedding] = BatchQueue(
            self._encode, batch_limit(predictor.encoder, settings.encode_batch), 1, "encode"
        )
        self._decodes: BatchQueue[DecodeJob, list[Decoded]] = BatchQueue(
            self._decode, predictor.prompts_per_run, settings.decode_workers, "decode"
        )
        self._gains_from_batches = predictor.decoder.device != "cpu"

    def close(self, seconds: float = 3.0) -> bool:
        """Free everything but the predictor; False where it is still at work after `seconds`."""
        self.intake.close()
        end = time.monotonic() + seconds
        ended = [
            queue.close(max(0.0, end - time.monotonic()))
            for queue in (self._encodes, self._decodes)
        ]
        for pool in (self.quick, self.forming, self.auto_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        self.store.close()
        return all(ended)

    async def add_image(
        self, body: bytes, content_type: str, image_id: str | None = None
    ) -> tuple[str, Embedding, float]:
        """Encode an uploaded picture. Returns its id, its embedding and the encoder's seconds.

        Args:
            body: The picture's file, or a form with it.
            content_type: What the body is.
            image_id: The id that it gets; None for a new one.
        """
        with self.uploads.admit():
            with tracing.span("samtrt.read"):
                prepared = await self.intake.read_picture(body, content_type)
            start = time.perf_counter()
            with tracing.span("samtrt.encode"):
                embedding = await result_of(self._encodes.submit(prepared))
            seconds = time.perf_counter() - start
            kept = await run_in(self.quick, self.store.add, embedding, image_id)
            return kept, embedding, seconds

    async def get(self, image_id: str) -> Embedding:
        """Look an image up; raises as `ImageStore.get`."""
        return await run_in(self.quick, self.store.get, image_id)

    async def remove(self, image_id: str) -> None:
        """Forget an image; raises as `ImageStore.remove`."""
        await run_in(self.quick, self.store.remove, image_id)

    async def answer(self, image_id: str, body: bytes) -> tuple[list[list[Candidate]], float]:
        """Answer every prompt of a request: candidates by prompt, and the decoder's seconds."""
        with self.parses.admit():
            request = await run_in(self.quick, parse_json, MasksRequest, body, self.settings)
        if len(request.prompts) > self.settings.max_prompts:
            raise ApiError(
                422,
                f"{len(request.prompts)} prompts in one request; the server takes "
                f"{self.settings.max_prompts}",
            )
        with self.prompts.admit(len(request.prompts)):
            embedding = await self.get(image_id)
            masks = await self.intake.read_masks(request, embedding.frame)
            groups = await run_in(self.quick, self._group, embedding, request, masks)
            start = time.perf_counter()
            with tracing.span("samtrt.decode", prompts=len(request.prompts)):
                decoded = await _all_of(
                    [
                        self._decodes.submit(
                            DecodeJob(embedding, prompts),
                            self._key(image_id, prompts),
                            len(prompts),
                        )
                        for _, prompts in groups
                    ]
                )
            seconds = time.perf_counter() - start
            results: list[list[Candidate]] = [[] for _ in request.prompts]
            room = self.settings.max_answer_bytes
            choice = self.predictor.manifest.mask_choice
            for (indexes, _), answers in zip(groups, decoded, strict=True):
                for index, answer in zip(indexes, answers, strict=True):
                    for i in await run_in(self.quick, _chosen, answer, request, choice):
                        candidate = await self._form(embedding, answer, i, request)
                        results[index].append(candidate)
                        room -= candidate.nbytes
                        if room < 0:
                            raise ApiError(
                                413,
                                "the answer has more than the limit of "
                                f"{self.settings.max_answer_bytes:,} bytes: ask for fewer masks",
                            )
            return results, seconds

    async def _form(
        self, embedding: Embedding, answer: Decoded, number: int, request: MasksRequest
    ) -> Candidate:
        height, width = formed_size(embedding.original_size, request.longest_side)
        threshold = self.predictor.manifest.mask_threshold

        def form() -> Candidate:
            logits = answer.logits.reshape(*answer.logits.shape[1:])[number : number + 1]
            score = float(answer.scores[number])
            return write_candidate(logits, score, embedding.frame, threshold, request)

        async with self.memory.hold(height * width * BYTES_A_FORMED_PIXEL):
            return await run_in(self.forming, self._with_room, form)

    def _with_room(self, work: Callable[[], T]) -> T:
        """Do work on the GPU; where its memory is full, once more without the embeddings there."""
        try:
            return work()
        except DeviceMemoryError:
            if not self.store.leave_device():
                raise
        return work()

    def _encode(self, jobs: Sequence[Prepared]) -> list[Embedding]:
        self.metrics.batch_size.labels("encoder").observe(len(jobs))
        with self.metrics.batch_seconds.labels("encoder").time():
            return self._with_room(partial(encode_together, self.predictor.encoder, jobs))

    def _key(self, image_id: str, prompts: DecoderPrompts) -> object:
        """Jobs with equal keys may share a decoder call: same image, same number of points."""
        if not self._gains_from_batches:
            return object()
        return image_id, prompts.point_coords.shape[1]

    def _decode(self, jobs: Sequence[DecodeJob]) -> list[list[Decoded]]:
        merged = DecoderPrompts.joined([job.prompts for job in jobs])

        def decode() -> list[Decoded]:
            return [
                Decoded(logits[i : i + 1], scores)
                for logits, ious in self.predictor.decoded(jobs[0].embedding, merged)
                for i, scores in enumerate(to_host(ious))
            ]

        with self.metrics.batch_seconds.labels("decoder").time():
            answers = iter(self._with_room(decode))
        self.metrics.batch_size.labels("decoder").observe(len(merged))
        found = [list(islice(answers, len(job.prompts))) for job in jobs]
        if not all(np.isfinite(answer.scores).all() for job in found for answer in job):
            raise BackendError("the decoder gave scores that are not numbers")
        return found

    def _group(
        self, embedding: Embedding, request: MasksRequest, masks: dict[int, Logits]
    ) -> list[tuple[list[int], DecoderPrompts]]:
        """Encode a request's prompts for the decoder, grouped by their number of points."""
        most = self.predictor.decoder.inputs["point_coords"].max_shape
        groups: dict[int, list[tuple[int, DecoderPrompts]]] = {}
        for index, prompt in enumerate(request.prompts):
            if len(prompt.points or ()) > self.settings.max_points:
                raise PromptError(
                    f"prompt {index} has {len(prompt.points or ())} points; the server takes "
                    f"{self.settings.max_points}"
                )
            encoded = read_prompt(prompt, embedding.frame, masks.get(index))
            count = encoded.point_coords.shape[1]
            if most and count > most[1]:
                raise PromptError(
                    f"prompt {index} comes to {count} points and this model's engine takes "
                    f"{most[1]}, where a box counts as two and a missing one as one"
                )
            groups.setdefault(count, []).append((index, encoded))
        return [
            (
                [index for index, _ in group],
                DecoderPrompts.joined([prompts for _, prompts in group]),
            )
            for group in groups.values()
        ]


async def _all_of(futures: Sequence[Future[T]]) -> list[T]:
    """Wait for all; where one fails, the others are not waited for in vain."""
    tasks = [asyncio.ensure_future(result_of(future)) for future in futures]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _chosen(answer: Decoded, request: MasksRequest, choice: MaskChoice) -> list[int]:
    """Pick among the decoder's four masks: 0 is the single one, 1..3 whole, part and subpart."""
    scores = answer.scores

    def choose(several: bool) -> list[int]:
        return [int(i) for i in choose_masks(answer.logits, scores[None], several, choice)[0]]

    if request.candidates == 3:
        wanted = choose(True)
    else:
        wanted = choose(False)
        if request.candidates == 4:
            others = choose(True)
            # An unstable single mask that was replaced comes among the three.
            wanted += [i for i in ([0, *others] if wanted[0] else others) if i not in wanted]
    return [max(wanted, key=lambda i: scores[i])] if request.best_only else wanted
