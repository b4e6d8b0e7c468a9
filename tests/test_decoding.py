"""Which masks answer a prompt, for each way that models have of choosing."""

from __future__ import annotations

import numpy as np
import pytest

from samtrt.choices import Generation, MaskChoice
from samtrt.decoding import are_stable, choose_masks, returned_logits
from samtrt.server.scheduler import Decoded, _chosen
from samtrt.server.schemas import MasksRequest, Prompt

SCORES = np.array([[0.2, 0.5, 0.9, 0.1], [0.2, 0.8, 0.3, 0.1]], np.float32)


def logits(*shares: float) -> np.ndarray:
    """Low-res logits [P, 4, 10, 10] whose single masks have this share of uncertain cells."""
    planes = np.full((len(shares), 4, 100), -9.0, np.float32)
    planes[:, :, :50] = 9
    for plane, share in zip(planes[:, 0], shares, strict=True):
        plane[: round(50 * share)] = 0.01
    return planes.reshape(len(shares), 4, 10, 10)


@pytest.mark.parametrize(
    ("choice", "multimask", "expected"),
    [
        (MaskChoice.SAM, True, [[1, 2, 3], [1, 2, 3]]),
        (MaskChoice.SAM, False, [[0], [0]]),
        (MaskChoice.BEST, True, [[2], [1]]),
        (MaskChoice.BEST, False, [[0], [0]]),
        (MaskChoice.STABLE, True, [[1, 2, 3], [1, 2, 3]]),
        (MaskChoice.STABLE, False, [[0], [1]]),  # the second one is unstable
    ],
)
def test_choices(choice: MaskChoice, multimask: bool, expected: list[list[int]]) -> None:
    assert choose_masks(logits(0, 0.1), SCORES, multimask, choice).tolist() == expected


def test_stability_is_an_areas_share() -> None:
    # 49 of 50 cells are 0.98, in float32 as officially.
    assert are_stable(logits(0.0, 0.02, 0.04)).tolist() == [True, True, False]
    assert are_stable(np.full((1, 4, 8, 8), -5, np.float32)).tolist() == [True]


def test_returned_logits_are_limited_as_officially() -> None:
    values = np.array([-90.0, 3.0, 90.0], np.float32)
    assert returned_logits(values, Generation.SAM2).tolist() == [-32, 3, 32]
    assert returned_logits(values, Generation.SAM) is values


@pytest.mark.parametrize(
    ("candidates", "share", "expected"),
    [
        (1, 0.0, [0]),
        (1, 0.5, [2]),
        (3, 0.5, [1, 2, 3]),
        (4, 0.0, [0, 1, 2, 3]),
        (4, 0.5, [2, 0, 1, 3]),  # the single mask's place is the best one's
    ],
)
def test_the_server_chooses_alike(candidates: int, share: float, expected: list[int]) -> None:
    request = MasksRequest(prompts=[Prompt(box=(0, 0, 5, 5))], candidates=candidates)
    answer = Decoded(logits(share)[:1], SCORES[0])
    found = _chosen(answer, request, MaskChoice.STABLE)
    assert found == expected
