"""Automatic masks: everything in an image, from a grid of point prompts, on any backend.

`AutomaticMaskGenerator` has the parameters, defaults and output of the official
`SamAutomaticMaskGenerator`, and gives its masks; it differs in when work is done. Masks that the
filters drop are dropped on their scores and low-res logits, before anything is brought to the
image's size; of those that stay, only the part that holds mask is formed, and at once turned into
RLE.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samtrt.automatic.batches import Batch, grid_batches, refined
from samtrt.automatic.candidates import Candidate, Check, Prospects, Sieve, StabilityTest
from samtrt.automatic.checks import check_settings, checked_image
from samtrt.automatic.device import DeviceSieve
from samtrt.automatic.grid import CropBox, crop_boxes, layered_point_grids
from samtrt.automatic.records import OutputMode, check_output_mode, record_of
from samtrt.automatic.selection import select, suppress
from samtrt.automatic.small_regions import clean, without_specks
from samtrt.encoding import Image
from samtrt.errors import ImageError, PromptError
from samtrt.masks.forming import device_former
from samtrt.masks.record import MaskRecords
from samtrt.masks.specks import cell_area
from samtrt.masks.upscaling import Upscaler
from samtrt.predictor import Predictor
from samtrt.registry import MaskThresholds
from samtrt.types import BoolArray, Embedding, Size

Progress = Callable[[int, int], None]
"""Called with the points done and the points in all."""


@dataclass(frozen=True)
class AutomaticMaskGenerator:
    """Finds masks of everything in an image.

    Attributes:
        predictor: The model, on any backend.
        points_per_side: Points along each side of the grid; None where `point_grids` is given.
        points_per_batch: Points decoded before their masks are filtered. The predictor further
            divides them by what its decoder takes.
        pred_iou_thresh: Masks with a predicted IoU up to this are dropped, unless it is 0. None,
            the default, is the model's own (`Manifest.automatic`), and so below.
        stability_score_thresh: Masks with a stability score below this are dropped, unless 0.
        stability_score_offset: How far the mask threshold is raised and lowered for the score.
        box_nms_thresh: Box IoU above which the worse of two masks of one crop is a duplicate.
        crop_n_layers: Layers of crops that are searched beside the image; layer i has 4^i.
        crop_nms_thresh: As `box_nms_thresh`, between crops, where smaller crops are preferred.
        crop_overlap_ratio: Overlap of the first layer's crops, a share of the shorter side.
        crop_n_points_downscale_factor: The grid of layer i has this^i times fewer points a side.
        point_grids: For each layer, points [N, 2] in the unit square.
        min_mask_region_area: Holes and islands smaller than this many pixels are removed.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle".
        specks: As `Predictor.specks`, of the crop that a mask was found in; 0 removes none.
        use_m2m: Each mask goes back to the decoder once, with its point, and what comes of it is
            kept in its place. Of models of SAM 2's kind alone.
        multimask_output: Three masks a point, or one: of models of SAM 2's kind and of SAM-HQs.
    """

    predictor: Predictor
    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[npt.NDArray[np.floating]] | None = None
    min_mask_region_area: int = 0
    output_mode: OutputMode = "binary_mask"
    specks: int = 0
    use_m2m: bool = False
    multimask_output: bool = True

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise PromptError("give either points_per_side or point_grids, and not both")
        check_output_mode(self.output_mode)
        check_settings(self)

    @property
    def thresholds(self) -> MaskThresholds:
        """Which masks are kept: what was asked for, else the model's own."""
        own = self.predictor.manifest.automatic
        iou, stability = self.pred_iou_thresh, self.stability_score_thresh
        return MaskThresholds(
            own.pred_iou if iou is None else iou,
            own.stability if stability is None else stability,
        )

    @property
    def grids(self) -> list[npt.NDArray[np.float64]]:
        """The points of each layer in the unit square, [N, 2]."""
        if self.points_per_side is None:
            return [np.asarray(grid, dtype=np.float64) for grid in self.point_grids or ()]
        last = self.points_per_side // self.crop_n_points_downscale_factor**self.crop_n_layers
        if last < 1:
            raise PromptError(
                f"{self.points_per_side} points per side leave none for {self.crop_n_layers} "
                "layers of crops; raise points_per_side or lower crop_n_points_downscale_factor"
            )
        return layered_point_grids(
            self.points_per_side, self.crop_n_layers, self.crop_n_points_downscale_factor
        )

    def generate(
        self,
        image: Image | Embedding,
        progress: Progress | None = None,
        check: Check | None = None,
    ) -> MaskRecords:
        """Find the masks of an image.

        Args:
            image: RGB, uint8 [H, W, 3], where `Predictor.encode` takes it; or, without crops, what
                that returned.
            progress: Called after each batch of points.
            check: Called between all steps, also by other threads; what it raises ends the search.

        Returns:
            One record a mask, in the official generator's order: by falling predicted IoU or, with
            crops, from small crops to large.

        Raises:
            ImageError: where the image is not such an array, or is an embedding and crops are
                asked for.
        """
        if isinstance(image, Embedding):
            if self.crop_n_layers:
                raise ImageError("crops are encoded anew: they need the image, not its embedding")
            size = image.original_size
        else:
            image = checked_image(image, self.predictor.encoder.memory, self.crop_n_layers > 0)
            size = image.shape[0], image.shape[1]
        check = check or _go_on
        crops = crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        count = _Counter(progress, sum(len(self.grids[layer]) for _, layer in crops))
        found: list[Candidate] = []
        for crop, layer in crops:
            embedding = image if isinstance(image, Embedding) else self._encode(image, crop)
            found += self._search(embedding, crop, self.grids[layer], size, count, check)
        if len(crops) > 1:
            # Smaller crops show an object larger: prefer their masks.
            areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (c.crop for c in found)]
            found = suppress(found, 1 / np.array(areas, dtype=np.float32), self.crop_nms_thresh)
        if self.min_mask_region_area > 0:
            limit = max(self.box_nms_thresh, self.crop_nms_thresh)
            found = clean(found, self.min_mask_region_area, limit, check)
        if self.specks:
            found = without_specks(found, self._speck_area, self.box_nms_thresh, check)
        return MaskRecords(record_of(candidate, self.output_mode) for candidate in found)

    def _speck_area(self, candidate: Candidate) -> float:
        """Return the pixels below which a region of a mask is a speck."""
        x1, y1, x2, y2 = candidate.crop
        return self.specks * cell_area(self.predictor.manifest.frame((y2 - y1, x2 - x1)))

    def _encode(self, image: Image, crop: CropBox) -> Embedding:
        if not isinstance(image, np.ndarray):
            return self.predictor.encode(image)
        x1, y1, x2, y2 = crop
        return self.predictor.encode(np.ascontiguousarray(image[y1:y2, x1:x2]))

    def _search(
        self,
        embedding: Embedding,
        crop: CropBox,
        grid: npt.NDArray[np.float64],
        size: Size,
        count: _Counter,
        check: Check,
    ) -> list[Candidate]:
        """Find one crop's masks, where they are: on a GPU, or on the host."""
        test = StabilityTest(
            self.predictor.manifest.mask_threshold,
            self.stability_score_offset,
            self.thresholds.stability,
        )
        batches: Iterable[Batch] = grid_batches(embedding, grid, self.points_per_batch, check)
        if self.use_m2m:
            batches = refined(self.predictor, embedding, batches, self.multimask_output, check)
        memory = self.predictor.decoder.memory
        if memory is not None:
            former = device_former(memory, embedding.frame)
            on_device = DeviceSieve(
                former,
                test,
                self.thresholds.pred_iou,
                crop,
                size,
                self.predictor.manifest.mask_choice,
                self._several,
            )
            return self._search_on_device(embedding, batches, on_device, count)
        sieve = Sieve(Upscaler(embedding.frame), test, crop, size, check)
        return self._search_on_host(embedding, batches, sieve, count)

    def _search_on_host(
        self,
        embedding: Embedding,
        batches: Iterable[Batch],
        sieve: Sieve,
        count: _Counter,
    ) -> list[Candidate]:
        """Look at a batch's masks in threads while the next one is decoded."""
        workers = _workers()
        with ThreadPoolExecutor(workers) as pool:
            prospects = Prospects(sieve, pool)
            for points, prompts, asked in batches:
                logits, places, scores = self.predictor.decode_wanted(
                    embedding, prompts, self._promising, self._several
                )
                prospects.add(logits, scores[tuple(places.T)], points[places[:, 0]])
                count(asked)
            return select(prospects.all(), sieve.form, self.box_nms_thresh, pool, ahead=workers)

    def _search_on_device(
        self,
        embedding: Embedding,
        batches: Iterable[Batch],
        sieve: DeviceSieve,
        count: _Counter,
    ) -> list[Candidate]:
        """Look at a run's masks on the GPU while it decodes the next one."""
        waiting: Future[None] | None = None
        with ThreadPoolExecutor(1) as pool:  # one thread, so that masks keep their order
            for points, prompts, asked in batches:
                start = 0
                for logits, scores in self.predictor.decoded(embedding, prompts):
                    if waiting:
                        waiting.result()
                    stop = start + len(logits)
                    waiting = pool.submit(sieve.add, logits, scores, points[start:stop])
                    start = stop
                count(asked)
            if waiting:
                waiting.result()
        return sieve.select(self.box_nms_thresh)

    @property
    def _several(self) -> bool:
        """Whether the masks that are looked at may be three of a prompt."""
        return self.multimask_output and not self.use_m2m

    def _promising(self, scores: npt.NDArray[np.float32]) -> BoolArray:
        if self.thresholds.pred_iou > 0:
            return np.asarray(scores > self.thresholds.pred_iou)
        return np.ones_like(scores, dtype=np.bool_)


def _go_on() -> None:
    """Let a search go on: nobody asked to be able to end it."""


class _Counter:
    """Adds up the points done and tells `progress`."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, points: int) -> None:
        self._done += points
        if self._progress:
            self._progress(self._done, self._total)


def _workers() -> int:
    """Threads for the host's part: NumPy and OpenCV release the lock in what is slow."""
    return min(16, os.cpu_count() or 1)
