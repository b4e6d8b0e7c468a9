"""A decoder whose masks vary as real ones do: blobs around the point, some stable, some not."""

from __future__ import annotations

import cv2
import numpy as np

from samtrt.backends.base import Arrays
from samtrt.backends.fake import FakeBackend
from samtrt.choices import Stage
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor


class BlobBackend(FakeBackend):
    """Logits fall off from the prompt's first point, with size, slope and noise drawn for each.

    Draws are seeded by the point and the image, so that equal prompts get equal answers. A mask
    prompt is half of each answer, and moves its score.
    """

    def __init__(self, manifest: Manifest, stage: Stage, seed: int = 0) -> None:
        super().__init__(manifest, stage)
        self.seed = seed

    def _compute(self, feeds: Arrays) -> dict[str, np.ndarray]:
        if self._stage is Stage.ENCODER:
            return super()._compute(feeds)
        image = int(abs(feeds["image_embeddings"]).sum() * 10)
        given = (
            mask[0] if has else None
            for mask, has in zip(feeds["mask_input"], feeds["has_mask_input"], strict=True)
        )
        answers = [
            self._blobs(xy, image, mask)
            for xy, mask in zip(feeds["point_coords"][:, 0], given, strict=True)
        ]
        return {
            "low_res_masks": np.stack([masks for masks, _ in answers]),
            "iou_predictions": np.stack([scores for _, scores in answers]),
        }

    def _blobs(
        self, point: np.ndarray, image: int, given: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        place = np.round(point * 8).astype(int).tolist()
        rng = np.random.default_rng([self.seed, image, *place, *([] if given is None else [1])])
        size, grid = self._manifest.mask_size, np.arange(self._manifest.mask_size)
        x, y = (point * size / self._manifest.image_size)[:, None]
        masks = []
        for share in (0.1, 0.05, 0.15, 0.4):
            radius = size * share * rng.uniform(0.5, 1.5)
            distance = np.hypot(grid[None, :] - x, rng.uniform(0.5, 2) * (grid[:, None] - y))
            noise = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), size / 20)
            logits = (radius - distance) * rng.uniform(0.5, 6) + rng.uniform(0, 40) * noise
            masks.append(logits + rng.uniform(0, 2) * rng.normal(size=(size, size)))
        logits, scores = np.stack(masks), rng.uniform(0.8, 1, 4)
        if given is not None:
            logits, scores = (logits + given) / 2, scores + given.mean() / 400
        return logits.astype(np.float32), scores.astype(np.float32)


def blob_predictor(manifest: Manifest) -> Predictor:
    """Return a predictor with the fake encoder and the blob decoder."""
    encoder = FakeBackend(manifest, Stage.ENCODER)
    return Predictor(encoder, BlobBackend(manifest, Stage.DECODER), manifest)


def random_logits(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Return float32 [count, size, size] that cross every threshold, in blobs and in specks."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, max(size // 4, 2), max(size // 4, 2))).astype(np.float32)
    smooth = np.stack([cv2.resize(plane * 4, (size, size)) for plane in coarse])
    return smooth + rng.normal(size=smooth.shape).astype(np.float32)
