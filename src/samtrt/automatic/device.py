"""Automatic masks on a GPU: every mask is measured at full size there, and decided on by numbers.

No bounds and no guesses are needed, as on the host (see `candidates`): measuring all masks of a
grid takes a GPU a few milliseconds. What passes is kept as low-res logits; what is left in the end
becomes RLE on the GPU, and that alone leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from samtrt.automatic.candidates import Candidate, StabilityTest
from samtrt.automatic.grid import CropBox, touches_crop_edge
from samtrt.automatic.suppression import nms
from samtrt.choices import MaskChoice
from samtrt.cuda.memory import CudaArray, joined
from samtrt.decoding import check_results, choose_masks, planes_of
from samtrt.masks.cuda import Facts, Limits, MaskFormer, Place
from samtrt.masks.rle import Rle
from samtrt.types import Size, Tensor

MOST_HELD = 1 << 30
"""Bytes of low-res logits that wait on the GPU (4,096 masks of 256 x 256)."""


@dataclass
class _Held:
    """Masks that passed the filters: their logits, or their RLE."""

    cells: CudaArray | None
    rles: list[Rle]
    boxes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    stability: npt.NDArray[np.float32]
    points: npt.NDArray[np.float64]


@dataclass
class DeviceSieve:
    """Tells which masks of one crop are worth keeping.

    Attributes:
        former: From logits to the crop's size, on the GPU.
        test: Which masks are stable enough.
        least_score: Masks whose predicted IoU is not above it are dropped, unless it is 0.
        crop: The crop.
        size: (height, width) of the whole image.
        choice: Which of each prompt's masks are looked at.
        multimask_output: Whether there may be three of them.
    """

    former: MaskFormer
    test: StabilityTest
    least_score: float
    crop: CropBox
    size: Size
    choice: MaskChoice = MaskChoice.SAM
    multimask_output: bool = True
    _held: list[_Held] = field(default_factory=list)

    def add(self, logits: Tensor, scores: Tensor, points: npt.NDArray[np.float64]) -> None:
        """Filter the masks of each of P more prompts.

        Args:
            logits: float32 [P, 4, M, M] on the GPU, as the decoder gives them.
            scores: float32 [P, 4] on the GPU, the model's IoU predictions.
            points: float64 [P, 2], the prompts, in the crop's pixels.

        Raises:
            BackendError: where scores are no numbers.
        """
        planes = planes_of(choose_masks(logits, scores, self.multimask_output, self.choice))
        points = np.repeat(points, len(planes) // len(points), axis=0)
        flat, ious = logits.reshape(-1, *logits.shape[2:]), scores.reshape(-1)
        assert isinstance(flat, CudaArray)
        assert isinstance(ious, CudaArray)
        self._add(flat, ious, planes, points)

    def _add(
        self,
        logits: CudaArray,
        scores: CudaArray,
        planes: npt.NDArray[np.intp],
        points: npt.NDArray[np.float64],
    ) -> None:
        """Filter planes [K] of logits [N, M, M], with scores [N] and a point [K, 2] for each."""
        test, has_limit = self.test, self.least_score > 0
        ious = scores.numpy()[planes]
        check_results(ious)
        limits = Limits(test.threshold, test.threshold + test.offset, test.threshold - test.offset)
        facts = self.former.measure(
            logits, planes, limits, scores if has_limit else None, self.least_score
        )
        stability = test.scores(facts.raised, facts.lowered)
        passed = test.all_passing(stability)
        if has_limit:
            passed &= ious > np.float32(self.least_score)
        boxes = self._place(facts)
        chosen = np.flatnonzero(passed)
        if self.crop != (0, 0, self.size[1], self.size[0]):
            chosen = np.array([i for i in chosen if not self._is_cut(boxes[i])], np.intp)
        if not len(chosen):
            return
        cells = logits[planes[chosen]]
        assert isinstance(cells, CudaArray)
        self._held.append(
            _Held(cells, [], boxes[chosen], ious[chosen], stability[chosen], points[chosen])
        )
        if sum(held.cells.nbytes for held in self._held if held.cells) > MOST_HELD:
            self._settle()

    def _place(self, facts: Facts) -> npt.NDArray[np.int64]:
        """Return boxes in the whole image."""
        left, top, *_ = self.crop
        return np.asarray(facts.boxes + np.array([left, top, left, top], np.int64))

    def _is_cut(self, box: npt.NDArray[np.int64]) -> bool:
        x1, y1, x2, y2 = (int(side) for side in box)
        return touches_crop_edge((x1, y1, x2, y2), self.crop, self.size)

    def _settle(self) -> None:
        """Form what is held, and let go of its logits: RLE is small."""
        for held in self._held:
            if held.cells is not None:
                held.rles = self._encode(held.cells)
                held.cells = None

    def _encode(self, cells: CudaArray) -> list[Rle]:
        left, top, *_ = self.crop
        place = Place(left, top, self.size)
        return self.former.encode(cells, np.arange(len(cells)), self.test.threshold, place)

    def select(self, threshold: float) -> list[Candidate]:
        """Return what NMS leaves, by falling score.

        Args:
            threshold: As of `nms`.
        """
        if not self._held:
            return []
        boxes = np.concatenate([held.boxes for held in self._held])
        scores = np.concatenate([held.scores for held in self._held])
        owner = np.repeat(np.arange(len(self._held)), [len(held.scores) for held in self._held])
        first = np.searchsorted(owner, np.arange(len(self._held)))
        kept = nms(boxes, scores, threshold)
        rles = self._rles(kept, owner, first)
        left, top, *_ = self.crop
        found = []
        for i, rle in zip(kept, rles, strict=True):
            held, row = self._held[owner[i]], i - first[owner[i]]
            x1, y1, x2, y2 = (int(side) for side in held.boxes[row])
            x, y = (float(side) for side in held.points[row])
            found.append(
                Candidate(
                    rle=rle,
                    box=(x1, y1, x2, y2),
                    score=float(held.scores[row]),
                    stability=float(held.stability[row]),
                    point=(x + left, y + top),
                    crop=self.crop,
                )
            )
        return found

    def _rles(
        self,
        kept: npt.NDArray[np.intp],
        owner: npt.NDArray[np.intp],
        first: npt.NDArray[np.intp],
    ) -> list[Rle]:
        """Return the kept masks as RLE, those that are still logits all at once."""
        found: dict[int, Rle] = {}
        waiting: list[CudaArray] = []
        numbers: list[int] = []
        for place, held in enumerate(self._held):
            mine = kept[owner[kept] == place]
            if not len(mine):
                continue
            rows = mine - first[place]
            if held.cells is None:
                found |= {int(i): held.rles[row] for i, row in zip(mine, rows, strict=True)}
                continue
            cells = held.cells[rows]
            assert isinstance(cells, CudaArray)
            waiting.append(cells)
            numbers += mine.tolist()
        if waiting:
            together = joined(waiting)
            assert isinstance(together, CudaArray)
            found |= dict(zip(numbers, self._encode(together), strict=True))
        return [found[int(i)] for i in kept]
