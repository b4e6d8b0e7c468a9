"""What a decoder answers about an embedding, a bounded number of prompts at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import Backend
from samtrt.choices import Generation, MaskChoice
from samtrt.cuda.memory import CudaArray, all_to_host
from samtrt.errors import BackendError
from samtrt.manifest import Manifest
from samtrt.masks.forming import Former, former_of
from samtrt.masks.planes import count_above, limited
from samtrt.masks.prediction import Prediction
from samtrt.masks.rle import Rle
from samtrt.masks.specks import without_specks
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import DecoderPrompts
from samtrt.types import BoolArray, Embedding, Tensor, to_host

Wanted = Callable[[npt.NDArray[np.float32]], BoolArray]

PROMPTS_PER_RUN = 16
PROMPTS_PER_RUN_ON_CPU = 8
"""How many prompts the decoder gets at once where no engine says; each takes about 30 MB of working
memory at 1024 input. On a CPU each takes as long in few as in many."""


class Decoding:
    """A model's decoder. Its methods change nothing: threads may share it.

    Attributes:
        decoder: What runs it.
        manifest: Of the model.
        prompts_per_run: Prompts that the engine gets at once.
        specks: Islands and holes of masks with fewer cells of low-res logits are removed; none by
            default. Low-res logits are returned as they are.
    """

    specks: int = 0

    def __init__(
        self, decoder: Backend, manifest: Manifest, prompts_per_run: int | None = None
    ) -> None:
        self.decoder = decoder
        self.manifest = manifest
        most = decoder.inputs["point_coords"].max_shape
        # An engine has memory for as many as its profile allows, and is fastest with all of them.
        limit = most[0] if most else None
        usual = PROMPTS_PER_RUN_ON_CPU if decoder.device == "cpu" else PROMPTS_PER_RUN
        asked = prompts_per_run or limit or usual
        self.prompts_per_run = min(asked, limit) if limit else asked

    def decode(
        self, embedding: Embedding, prompts: DecoderPrompts
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Decode prompts, a bounded number at a time.

        Returns:
            All four low-res logits [P, 4, M, M] and IoU predictions [P, 4], as the decoder gives
            them; `choose_masks` tells which of them the official predictor returns.
        """
        logits, scores = [], []
        for _, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds)
            logits.append(out["low_res_masks"])
            scores.append(out["iou_predictions"])
        return _joined(logits), _joined(scores)

    def decode_wanted(
        self,
        embedding: Embedding,
        prompts: DecoderPrompts,
        wanted: Wanted,
        multimask_output: bool = True,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Decode prompts and bring back only the masks that their scores ask for.

        Args:
            embedding: As `encode` returns it.
            prompts: P of them.
            wanted: Given IoU predictions [p, C] of the masks that `choose_masks` picks of some
                prompts', tells which are wanted, [p, C].
            multimask_output: Three masks of each prompt, or one.

        Returns:
            Low-res logits [K, M, M] of the wanted masks, which they are [K, 2] (prompt and one of
            C), and all C masks' IoU predictions [P, C].
        """
        logits, places, scores = [], [], []
        for start, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds, on_host=False)
            masks, every = out["low_res_masks"], to_host(out["iou_predictions"])
            check_results(every)
            chosen = choose_masks(masks, every, multimask_output, self.manifest.mask_choice)
            score = _taken(every, chosen)
            asked = wanted(score)
            planes = planes_of(chosen).reshape(chosen.shape)[asked]
            logits.append(to_host(masks.reshape(-1, *masks.shape[2:])[planes]))
            places.append(np.argwhere(asked) + np.array([start, 0]))
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
            yield start, {**embedding.maps, **part}

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
            chosen = choose_masks(logits, ious, multimask_output, self.manifest.mask_choice)
            former, flat, planes = self._picked(logits, embedding, chosen)
            formed = (
                former.logits(flat, planes)
                if return_logits
                else former.masks(flat, planes, self.manifest.mask_threshold)
            )
            full, *rest = all_to_host([formed, logits, ious])
            masks.append(full.reshape(len(logits), -1, *full.shape[1:]))
            low_res.append(returned_logits(_taken(rest[0], chosen), self.manifest.generation))
            scores.append(_taken(rest[1], chosen))
        return Prediction(_joined(masks), _joined(scores), _joined(low_res))

    def form_rle(
        self, embedding: Embedding, prompts: DecoderPrompts, multimask_output: bool = True
    ) -> tuple[list[list[Rle]], npt.NDArray[np.float32]]:
        """As `form`, but masks are uncompressed RLE; `Predictor.predict_rle` says the rest."""
        masks: list[list[Rle]] = []
        scores = []
        for logits, ious in self.decoded(embedding, prompts):
            chosen = choose_masks(logits, ious, multimask_output, self.manifest.mask_choice)
            former, flat, planes = self._picked(logits, embedding, chosen)
            found = former.encode(flat, planes, self.manifest.mask_threshold)
            each = len(planes) // len(logits)
            masks += [found[i : i + each] for i in range(0, len(found), each)]
            scores.append(_taken(to_host(ious), chosen))
        return masks, _joined(scores)

    def _picked(
        self, logits: Tensor, embedding: Embedding, chosen: npt.NDArray[np.intp]
    ) -> tuple[Former, Tensor, npt.NDArray[np.intp]]:
        """Return what forms masks, planes [N, M, M], and the numbers of those that were chosen."""
        flat: Tensor = logits.reshape(-1, *logits.shape[2:])
        planes = planes_of(chosen)
        if self.specks:
            threshold = self.manifest.mask_threshold
            flat = cleaned(flat[planes], embedding.frame, threshold, self.specks)
            planes = np.arange(len(planes), dtype=np.intp)
        return former_of(flat, embedding.frame), flat, planes


def cleaned(planes: Tensor, frame: Frame, threshold: float, specks: int) -> Tensor:
    """Return low-res logits [N, M, M] without specks and holes, where they were."""
    clean = np.stack([without_specks(plane, frame, threshold, specks) for plane in to_host(planes)])
    return planes.memory.upload(clean) if isinstance(planes, CudaArray) else clean


def check_results(*arrays: npt.NDArray[np.float32]) -> None:
    """Raise `BackendError` where an engine gave NaN or infinities: no mask can be told from it."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise BackendError(
            "the engine's results are not numbers (NaN or infinite): compare it with its "
            "checkpoint by: samtrt verify"
        )


STABILITY_OFFSET = 0.05
"""How far from 0 a logit is that counts for a mask's stability (official `build_sam.py`,
`dynamic_multimask_stability_delta`)."""
LEAST_STABILITY = np.float32(0.98)
"""Below it a single mask is not trusted (`dynamic_multimask_stability_thresh`)."""
LOGIT_LIMIT = 32.0
"""Beyond it SAM 2's predictor cuts low-res logits that it returns (`SAM2ImagePredictor`)."""


def choose_masks(
    logits: Tensor,
    scores: Tensor,
    multimask_output: bool,
    choice: MaskChoice = MaskChoice.SAM,
) -> npt.NDArray[np.intp]:
    """Tell which of each prompt's four masks answer it: [P, C], each 0..3.

    As the official `MaskDecoder.forward`: masks 1..3, or mask 0 alone. As SAM-HQ's
    `MaskDecoderHQ.forward`: the best of 1..3, or mask 0. As SAM 2's `MaskDecoder.forward`: masks
    1..3, or mask 0 where it is stable, else the best of 1..3.

    Args:
        logits: Low-res logits [P, 4, M, M].
        scores: IoU predictions [P, 4].
        multimask_output: Whether the prompt may be ambiguous.
        choice: Of the model.
    """
    if multimask_output and choice is not MaskChoice.BEST:
        return np.tile(np.arange(1, 4, dtype=np.intp), (len(scores), 1))
    single = np.zeros((len(scores), 1), dtype=np.intp)
    if not multimask_output and choice is not MaskChoice.STABLE:
        return single
    best: npt.NDArray[np.intp] = to_host(scores)[:, 1:].argmax(axis=1, keepdims=True) + 1
    if multimask_output:
        return best
    return np.where(are_stable(logits)[:, None], single, best)


def are_stable(logits: Tensor) -> BoolArray:
    """Tell of which prompts the single mask is stable: bool [P], of low-res logits [P, 4, M, M].

    As the official `MaskDecoder._get_stability_scores` of SAM 2: the areas above and below 0 by
    `STABILITY_OFFSET`, one by the other, in float32.
    """
    flat, firsts = logits.reshape(-1, *logits.shape[2:]), np.arange(len(logits)) * logits.shape[1]
    counts = count_above(flat, firsts, (STABILITY_OFFSET, -STABILITY_OFFSET))
    inner, outer = counts.astype(np.float32)
    # Where nothing is mask at all, that is certain.
    scores = np.divide(inner, outer, out=np.ones_like(outer), where=outer > 0)
    return np.asarray(scores >= LEAST_STABILITY)


def returned_logits(
    logits: npt.NDArray[np.float32], generation: Generation
) -> npt.NDArray[np.float32]:
    """Return low-res logits as the official predictor gives them to a caller."""
    if generation is Generation.SAM2:
        return np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)
    return logits


def mask_prompts(logits: Tensor, chosen: npt.NDArray[np.intp]) -> Tensor:
    """Return masks of SAM 2 as it takes them as prompts itself, where they are.

    Args:
        logits: Low-res logits [P, 4, M, M].
        chosen: [P, C], as of `choose_masks`.

    Returns:
        float32 [P * C, 1, M, M], within `LOGIT_LIMIT`.
    """
    size = logits.shape[2:]
    return limited(logits.reshape(-1, *size), planes_of(chosen), LOGIT_LIMIT).reshape(-1, 1, *size)


def select_masks(
    logits: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    multimask_output: bool,
    choice: MaskChoice = MaskChoice.SAM,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Take the masks of `choose_masks`, and their scores, of [P, 4, ...] and [P, 4]."""
    chosen = choose_masks(logits, scores, multimask_output, choice)
    return _taken(logits, chosen), _taken(scores, chosen)


def planes_of(chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Number what was chosen [P, C] of [P, 4, ...] where the first two axes are one: [P * C]."""
    return (np.arange(len(chosen), dtype=np.intp)[:, None] * 4 + chosen).ravel()


def _taken(each: npt.NDArray[Any], chosen: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Take what was chosen [P, C] of [P, 4, ...], without a copy where it is the same for all."""
    if len(chosen) and (chosen == chosen[0]).all():
        return each[:, chosen[0, 0] : chosen[0, -1] + 1]
    return each[np.arange(len(chosen))[:, None], chosen]


def _joined(arrays: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Concatenate, but not where that would copy one array."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
