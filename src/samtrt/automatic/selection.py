"""Which automatic masks stay where several show the same thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

import numpy as np
import numpy.typing as npt

from samtrt.automatic.candidates import Candidate, Prospect
from samtrt.automatic.suppression import by_score, nms, suppressed
from samtrt.types import BoolArray

_MARGIN = 1e-5
"""Room for float32, in which overlaps are computed, in comparisons with bounds."""


def suppress(found: list[Candidate], scores: npt.ArrayLike, threshold: float) -> list[Candidate]:
    """Drop the candidates that NMS by these scores drops; the rest by falling score."""
    return [found[i] for i in nms([c.box for c in found], scores, threshold)]


def select(
    prospects: Sequence[Prospect],
    form: Callable[[Prospect], Candidate | None],
    threshold: float,
    pool: Executor,
    ahead: int,
) -> list[Candidate]:
    """Return what `suppress` by score leaves of the candidates that can be formed.

    Forming a mask is what costs time, and most masks show what a better one shows too. So those
    are formed by falling score, and those that surely overlap a kept one too much never are. A
    pool forms some ahead of the decisions; what a mask under way would probably suppress waits.

    Args:
        prospects: All masks.
        form: Makes a candidate of one, or None where a filter drops it.
        threshold: As of `nms`.
        pool: Where masks are formed.
        ahead: How many of them at a time.
    """
    queue = [prospects[i] for i in by_score([p.score for p in prospects])]
    doubles = _Doubles(queue, threshold)
    waiting = np.ones(len(queue), dtype=np.bool_)
    held_back = np.zeros(len(queue), dtype=np.intp)  # by how many of the masks under way
    jobs: dict[int, tuple[Future[Candidate | None], BoolArray]] = {}
    kept: list[Candidate] = []
    while True:
        while len(jobs) < ahead:
            free = waiting & (held_back == 0)
            place = int(free.argmax()) if len(free) else 0
            if not free[place : place + 1].any():
                break
            jobs[place] = pool.submit(form, queue[place]), doubles.expected_of(place)
            waiting[place] = False
            held_back += jobs[place][1]
        if not jobs:
            return kept
        # Nothing better is undecided: the best that waits is a double of a mask under way, which
        # is better still, or else it would have been started.
        job, doubled = jobs.pop(min(jobs))
        held_back -= doubled
        candidate = job.result()
        if candidate and not suppressed([k.box for k in kept], candidate.box, threshold).any():
            kept.append(candidate)
            waiting &= ~doubles.certain_of(candidate.box)


class _Doubles:
    """Tells, by bounds on their boxes, which masks surely overlap another one too much."""

    def __init__(self, queue: Sequence[Prospect], threshold: float) -> None:
        self._stable = [p.stable for p in queue]
        self._threshold = threshold * (1 + _MARGIN) + _MARGIN
        # One row for each side: rows are quick to compute with.
        self._outer, self._inner = (
            np.array(boxes, dtype=np.float64).reshape(-1, 4).T.copy()
            for boxes in ([p.outer for p in queue], [p.inner for p in queue])
        )
        x1, y1, x2, y2 = self._outer
        self._areas = (x2 - x1) * (y2 - y1)

    def certain_of(self, box: tuple[float, ...]) -> BoolArray:
        """Tell which masks a box suppresses, wherever theirs are within the bounds: bool [N]."""
        area = float((box[2] - box[0]) * (box[3] - box[1]))
        # Of all boxes between the two, none shares less, and none makes a larger union.
        inter = _shared(self._inner, box)
        union = area + self._areas - _shared(self._outer, box)
        return np.asarray(inter > self._threshold * union)

    def expected_of(self, place: int) -> BoolArray:
        """Tell which worse masks one would suppress if it is kept, as it seems it will be."""
        if not self._stable[place]:
            return np.zeros(len(self._stable), dtype=np.bool_)
        x1, y1, x2, y2 = (float(side) for side in self._outer[:, place])
        doubled = self.certain_of((x1, y1, x2, y2))
        doubled[: place + 1] = False
        return doubled


def _shared(boxes: npt.NDArray[np.float64], one: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Return the areas that boxes [4, N] share with one."""
    x1, y1, x2, y2 = boxes
    width = np.minimum(x2, one[2]) - np.maximum(x1, one[0])
    height = np.minimum(y2, one[3]) - np.maximum(y1, one[1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))
