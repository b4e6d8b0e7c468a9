"""What a decoder is asked about a crop: the points of a grid, and their masks once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samtrt.automatic.candidates import Check
from samtrt.decoding import Decoding, check_results, choose_masks, mask_prompts
from samtrt.preparation.prompts import DecoderPrompts, build_prompts
from samtrt.types import Embedding, to_host


class Batch(NamedTuple):
    """Prompts of one point each.

    Attributes:
        points: float64 [P, 2], in the crop's pixels.
        prompts: What the decoder takes for them.
        asked: How many points of the grid they stand for.
    """

    points: npt.NDArray[np.float64]
    prompts: DecoderPrompts
    asked: int


def grid_batches(
    embedding: Embedding, grid: npt.NDArray[np.float64], points_per_batch: int, check: Check
) -> Iterator[Batch]:
    """Yield the points of a grid, some at a time, as the decoder takes them."""
    height, width = embedding.original_size
    points = grid * (width, height)
    # A point on the far edge is inside for the official code; in float32, which the decoder
    # takes, the next smaller float64 is the same number.
    inside = np.minimum(points, np.nextafter((width, height), 0))
    prompts = build_prompts(embedding.frame, inside[:, None], np.ones((len(points), 1)))
    for start in range(0, len(points), points_per_batch):
        check()
        stop = start + points_per_batch
        some = points[start:stop]
        yield Batch(some, DecoderPrompts(**prompts.part(start, stop)), len(some))


def refined(
    decoding: Decoding,
    embedding: Embedding,
    batches: Iterable[Batch],
    multimask_output: bool,
    check: Check,
) -> Iterator[Batch]:
    """Yield prompts for better masks: each mask of each point, beside the point.

    As the official `SAM2AutomaticMaskGenerator.refine_with_m2m`, which drops no mask before. The
    masks of one run of the decoder at a time, so that few of them wait.

    Args:
        decoding: What gives the masks.
        embedding: Of the crop.
        batches: Of its points alone.
        multimask_output: Three masks a point, or one.
        check: Called between runs.
    """
    for points, prompts, _ in batches:
        start = 0
        for logits, scores in decoding.decoded(embedding, prompts):
            check()
            check_results(to_host(scores))
            choice = decoding.manifest.mask_choice
            chosen = choose_masks(logits, scores, multimask_output, choice)
            rows = start + np.repeat(np.arange(len(chosen)), chosen.shape[1])
            again = DecoderPrompts(
                point_coords=prompts.point_coords[rows],
                point_labels=prompts.point_labels[rows],
                mask_input=mask_prompts(logits, chosen),
                has_mask_input=np.ones(len(rows), np.float32),
            )
            yield Batch(points[rows], again, len(chosen))
            start += len(chosen)
