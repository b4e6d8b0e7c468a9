"""From prompts to the masks of an answer, in the forms that were asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samtrt.decoding import Decoding, check_results, choose_masks, planes_of, returned_logits
from samtrt.errors import PromptError
from samtrt.masks.forming import former_of
from samtrt.masks.rle import Rle, compress, with_list
from samtrt.masks.specks import without_specks
from samtrt.preparation.prompts import DecoderPrompts
from samtrt.triton.asked import ABOUT_MASKS, Asked, as_bytes
from samtrt.triton.settings import Settings
from samtrt.types import Embedding, Tensor, to_host

MOST_MASKS = 3
"""Of one prompt."""


def masks_of(
    decoding: Decoding,
    embedding: Embedding,
    prompts: DecoderPrompts,
    asked: Asked,
    settings: Settings,
) -> dict[str, npt.NDArray[np.generic]]:
    """Decode P prompts and return what was asked for of their C masks each.

    Returns:
        Of `rle` (JSON, uint8 [N]: P lists of C COCO RLE), `iou_predictions` (float32 [P, C]),
        `masks` (bool [P, C, H, W]) and `low_res_logits` (float32 [P, C, M, M]), those in
        `asked.outputs`.

    Raises:
        PromptError: where the answer would be larger than allowed.
    """
    wanted = asked.outputs & ABOUT_MASKS
    _check_room(embedding, prompts, wanted, asked.multimask, settings)
    frame, model = embedding.frame, decoding.manifest
    rles: list[list[Rle]] = []
    parts: dict[str, list[npt.NDArray[np.generic]]] = {name: [] for name in wanted - {"rle"}}
    for logits, ious in decoding.decoded(embedding, prompts):
        scores = to_host(ious)
        check_results(scores)
        chosen = choose_masks(logits, scores, asked.multimask, model.mask_choice)
        flat: Tensor = logits.reshape(-1, *logits.shape[2:])
        low, threshold = to_host(flat[planes_of(chosen)]), model.mask_threshold
        shown = low
        if asked.specks:
            shown = np.stack([without_specks(one, frame, threshold, asked.specks) for one in low])
        former, planes = former_of(shown, frame), np.arange(len(shown))
        if "rle" in wanted:
            found = [compress(with_list(one)) for one in former.encode(shown, planes, threshold)]
            each = chosen.shape[1]
            rles += [found[i : i + each] for i in range(0, len(found), each)]
        if "iou_predictions" in wanted:
            parts["iou_predictions"].append(np.take_along_axis(scores, chosen, axis=1))
        if "masks" in wanted:
            full = to_host(former.masks(shown, planes, threshold))
            parts["masks"].append(full.reshape(*chosen.shape, *full.shape[1:]))
        if "low_res_logits" in wanted:
            low = returned_logits(low, model.generation)
            parts["low_res_logits"].append(low.reshape(*chosen.shape, *low.shape[1:]))
    answer = {name: np.concatenate(part) for name, part in parts.items()}
    return {**answer, "rle": as_bytes(rles)} if "rle" in wanted else answer


def _check_room(
    embedding: Embedding,
    prompts: DecoderPrompts,
    wanted: frozenset[str],
    multimask: bool,
    settings: Settings,
) -> None:
    height, width = embedding.original_size
    each = 0
    if "masks" in wanted:
        each += height * width
    if "low_res_logits" in wanted:
        each += 4 * embedding.frame.mask_size**2
    size = each * len(prompts) * (MOST_MASKS if multimask else 1)
    if size > (most := settings.limits.max_answer_bytes):
        raise PromptError(
            f"the answer would have {size:,} bytes, more than the limit of {most:,}: ask for rle "
            "instead of masks, or for fewer prompts"
        )
