"""What a decoder engine answers about an embedding, a bounded number of prompts at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import Backend
from samtrt.cuda.memory import all_to_host
from samtrt.errors import BackendError
from samtrt.manifest import Manifest
from samtrt.masks.forming import Former, former_of
from samtrt.masks.rle import Rle
from samtrt.preparation.prompts import DecoderPrompts
from samtrt.types import BoolArray, Embedding, Prediction, Tensor, to_host

Wanted = Callable[[npt.NDArray[np.float32]], BoolArray]

PROMPTS_PER_RUN = 16
"""Prompts in one decoder call, where the engine has no limit: each costs about 30 MB of working
memory at 1024 input."""


class Decoding:
    """A model's decoder. Its methods change nothing: threads may share it.

    Attributes:
        decoder: The engine.
        manifest: Of the model.
        prompts_per_run: Prompts that the engine gets at once.
    """

    def __init__(
        self, decoder: Backend, manifest: Manifest, prompts_per_run: int | None = None
    ) -> None:
        self.decoder = decoder
        self.manifest = manifest
        most = decoder.inputs["point_coords"].max_shape
        # An engine has memory for as many as its profile allows, and is fastest with all of them.
        limit = most[0] if most else None
        asked = prompts_per_run or limit or PROMPTS_PER_RUN
        self.prompts_per_run = min(asked, limit) if limit else asked

    def decode(
        self, embedding: Embedding, prompts: DecoderPrompts
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Decode prompts, a bounded number at a time.

        Returns:
            All four low-res logits [P, 4, M, M] and IoU predictions [P, 4], as the decoder gives
            them; `select_masks` picks those that the official predictor returns.
        """
        logits, scores = [], []
        for _, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds)
            logits.append(out["low_res_masks"])
            scores.append(out["iou_predictions"])
        return _joined(logits), _joined(scores)

    def decode_wanted(
        self, embedding: Embedding, prompts: DecoderPrompts, wanted: Wanted
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Decode prompts and bring back only the masks that their scores ask for.

        Args:
            embedding: As `encode` returns it.
            prompts: P of them.
            wanted: Given IoU predictions [p, 3] of some prompts' three masks, as `select_masks`
                picks them for `multimask_output`, tells which are wanted, [p, 3].

        Returns:
            Low-res logits [K, M, M] of the wanted masks, which they are [K, 2] (prompt and mask),
            and all IoU predictions [P, 3].
        """
        logits, places, scores = [], [], []
        for start, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds, on_host=False)
            masks, score = out["low_res_masks"], to_host(out["iou_predictions"])[:, 1:]
            check_results(score)
            place = np.argwhere(wanted(score))
            # Of four masks, the first is not among the three.
            rows = place @ (masks.shape[1], 1) + 1
            logits.append(to_host(masks.reshape(-1, *masks.shape[2:])[rows]))
            places.append(place + np.array([start, 0]))
            scores.append(score)
        return _joined(logits), np.concatenate(places), np.concatenate(scores)

    def decoded(
        self, embedding: Embedding, prompts: DecoderPrompts
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode prompts, and yield what each run of the decoder gives, where masks are formed.

        Yields:
            All four low-res logits [p, 4, M, M] and IoU predictions [p, 4] of some prompts: in the
            memory of a GPU where the decoder has one, else on the host.
        """
        for _, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds, on_host=self.decoder.memory is None)
            yield out["low_res_masks"], out["iou_predictions"]

    def _runs(
        self, embedding: Embedding, prompts: DecoderPrompts
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield what each run of the decoder takes, after the number of its first prompt."""
        for start in range(0, len(prompts), self.prompts_per_run):
            part = prompts.part(start, start + self.prompts_per_run)
            yield start, {"image_embeddings": embedding.features, **part}

    def form(
        self,
        embedding: Embedding,
        prompts: DecoderPrompts,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """Decode P prompts and form their masks; `Predictor.predict_batch` says what is what."""
        masks, scores, low_res = [], [], []
        for logits, ious in self.decoded(embedding, prompts):
            former, flat, planes = _picked(logits, embedding, multimask_output)
            formed = (
                former.logits(flat, planes)
                if return_logits
                else former.masks(flat, planes, self.manifest.mask_threshold)
            )
            full, *rest = all_to_host([formed, logits, ious])
            masks.append(full.reshape(len(logits), -1, *full.shape[1:]))
            chosen, score = select_masks(rest[0], rest[1], multimask_output)
            low_res.append(chosen)
            scores.append(score)
        return Prediction(_joined(masks), _joined(scores), _joined(low_res))

    def form_rle(
        self, embedding: Embedding, prompts: DecoderPrompts, multimask_output: bool = True
    ) -> tuple[list[list[Rle]], npt.NDArray[np.float32]]:
        """As `form`, but masks are uncompressed RLE; `Predictor.predict_rle` says the rest."""
        masks: list[list[Rle]] = []
        scores = []
        for logits, ious in self.decoded(embedding, prompts):
            former, flat, planes = _picked(logits, embedding, multimask_output)
            found = former.encode(flat, planes, self.manifest.mask_threshold)
            each = len(planes) // len(logits)
            masks += [found[i : i + each] for i in range(0, len(found), each)]
            every = to_host(ious)
            scores.append(select_masks(every, every, multimask_output)[1])
        return masks, _joined(scores)


def check_results(*arrays: npt.NDArray[np.float32]) -> None:
    """Raise `BackendError` where an engine gave NaN or infinities: no mask can be told from it."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise BackendError(
            "the engine's results are not numbers (NaN or infinite): compare it with its "
            "checkpoint by: samtrt verify"
        )


def select_masks(
    logits: npt.NDArray[Any], scores: npt.NDArray[Any], multimask_output: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Pick masks 1..3, or mask 0 alone, of [P, 4, ...]: official `MaskDecoder.forward`."""
    chosen = slice(1, None) if multimask_output else slice(0, 1)
    return logits[:, chosen], scores[:, chosen]


def planes_of(logits: Tensor, multimask_output: bool) -> npt.NDArray[np.intp]:
    """Number what `select_masks` picks of [P, 4, ...], where the first two axes are one."""
    planes = np.arange(len(logits) * logits.shape[1]).reshape(len(logits), -1)
    return select_masks(planes, planes, multimask_output)[0].ravel()


def _joined(arrays: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Concatenate, but not where that would copy one array."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _picked(
    logits: Tensor, embedding: Embedding, multimask_output: bool
) -> tuple[Former, Tensor, npt.NDArray[np.intp]]:
    """Return what forms masks, all planes of a run [N, M, M], and the numbers of those wanted."""
    flat = logits.reshape(-1, *logits.shape[2:])
    return former_of(logits, embedding.frame), flat, planes_of(logits, multimask_output)
