"""Duplicates are dropped as NMS drops them, whatever is known ahead of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.automatic import candidates
from samtrt.automatic.candidates import Candidate, Prospect
from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.automatic.selection import select, suppress
from samtrt.masks.upscaling import NO_PART
from support.blobs import blob_predictor
from support.oracle import random_image
from support.samples import make_manifest

THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)


class Drawn:
    """Boxes with bounds around them, some exact and some wide; some turn out to be unstable."""

    def __init__(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        self.candidates: list[Candidate | None] = []
        self.prospects: list[Prospect] = []
        self.formed: list[int] = []
        for i in range(count):
            corner, span = rng.integers(0, 12, 2), rng.integers(0, 25, 2)
            box = np.concatenate([corner, corner + span])
            slack = rng.integers(0, 1 + rng.integers(0, 6), 4)
            outer = box + slack * (-1, -1, 1, 1)
            inner = box - rng.integers(0, 4) * np.array((-1, -1, 1, 1))
            score, unstable = float(rng.choice([0.8, 0.9, 0.95])), rng.random() < 0.3
            found = Candidate(
                {"size": [40, 40], "counts": []},
                (int(box[0]), int(box[1]), int(box[2]), int(box[3])),
                score,
                1.0,
                (float(i), 0.0),
                (0, 0, 40, 40),
            )
            self.candidates.append(None if unstable else found)
            looks_stable = bool(rng.random() < (0.2 if unstable else 0.8))
            self.prospects.append(
                Prospect(NO_PART, outer, inner, score, looks_stable, (float(i), 0.0))
            )

    def form(self, prospect: Prospect) -> Candidate | None:
        number = int(prospect.point[0])
        self.formed.append(number)
        return self.candidates[number]


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 40),
    ahead=st.sampled_from([1, 3, 16]),
    threshold=st.sampled_from(THRESHOLDS),
)
def test_what_stays_is_what_nms_leaves(seed: int, count: int, ahead: int, threshold: float) -> None:
    drawn = Drawn(seed, count)
    stable = [candidate for candidate in drawn.candidates if candidate]
    with ThreadPoolExecutor(ahead) as pool:
        found = select(drawn.prospects, drawn.form, threshold, pool, ahead)
    assert found == suppress(stable, [candidate.score for candidate in stable], threshold)
    assert len(drawn.formed) == len(set(drawn.formed))


def test_doubles_of_what_is_kept_are_not_formed() -> None:
    drawn = Drawn(0, 1)
    one = drawn.prospects[0]._replace(
        outer=np.array([0, 0, 20, 20]), inner=np.array([1, 1, 19, 19]), stable=True
    )
    drawn.candidates[0] = Candidate(
        {"size": [40, 40], "counts": []}, (0, 0, 20, 20), 0.9, 1.0, (0.0, 0.0), (0, 0, 40, 40)
    )
    elsewhere = one._replace(outer=one.outer + 15, inner=one.inner + 15)
    for ahead in (1, 8):
        drawn.formed.clear()
        with ThreadPoolExecutor(ahead) as pool:
            select([one] * 50 + [elsewhere], drawn.form, 0.7, pool, ahead)
        assert len(drawn.formed) == 2


@pytest.mark.parametrize("most_held", [0, 40_000])
def test_a_limit_on_what_is_held_does_not_change_the_masks(
    most_held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = random_image(90, 130)
    options: dict[str, Any] = {"points_per_side": 6, "points_per_batch": 9, "crop_n_layers": 1}

    def found() -> object:
        predictor = blob_predictor(make_manifest())
        return AutomaticMaskGenerator(predictor, output_mode="coco_rle", **options).generate(image)

    expected = found()
    settled = []
    settle = candidates.Sieve.settle
    monkeypatch.setattr(candidates, "MOST_HELD", most_held)
    monkeypatch.setattr(
        candidates.Sieve, "settle", lambda self, p: settled.append(p) or settle(self, p)
    )
    assert found() == expected
    assert settled
