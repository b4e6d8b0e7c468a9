"""A backend with no weights, for tests and dry runs: discs around points, and boxes as masks.

It keeps the contract of real backends (names, shapes, dtypes, checks) and answers every prompt
with masks that a test can predict.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import OBJECT_SCORES, Arrays, HostBackend, image_inputs, stage_tensors
from samtrt.choices import Stage
from samtrt.errors import BackendError
from samtrt.feature_maps import FeatureMap
from samtrt.manifest import Manifest

RADII = (0.10, 0.05, 0.10, 0.20)
"""Radius of mask i's disc around a foreground point, as a share of the image size."""
SCORES = (0.90, 0.95, 0.85, 0.80)
"""IoU prediction of mask i."""


class FakeBackend(HostBackend):
    name = "fake"
    device = "cpu"

    def __init__(self, manifest: Manifest, stage: Stage) -> None:
        self._manifest = manifest
        self._stage = stage
        self._closed = False
        inputs, outputs = stage_tensors(manifest, stage)
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}

    def _compute(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        if self._closed:
            raise BackendError("the fake backend is closed")
        if self._stage is Stage.ENCODER:
            return {one.name: _means(feeds["images"], one) for one in self._manifest.maps}
        held = image_inputs(self._stage, self._manifest)
        prompts = len(feeds["point_coords"])
        masks = [
            self._decode({name: feeds[name][i] for name in feeds if name not in held})
            for i in range(prompts)
        ]
        results = {
            "low_res_masks": np.stack(masks),
            "iou_predictions": np.tile(np.array(SCORES, dtype=np.float32), (prompts, 1)),
        }
        if self._manifest.object_scores:
            results[OBJECT_SCORES] = np.ones(prompts, np.float32)
        return results

    def _decode(self, prompt: Arrays) -> npt.NDArray[np.float32]:
        """Return logits [4, M, M]: positive within the disc of a point, a box, or the mask."""
        size = self._manifest.mask_size
        centres = (np.arange(size) + 0.5) * self._manifest.image_size / size
        x, y = centres[None, :], centres[:, None]
        labels, coords = prompt["point_labels"], prompt["point_coords"]
        logits = np.full((4, size, size), -10.0, dtype=np.float32)
        if prompt["has_mask_input"] > 0:
            logits = np.maximum(logits, prompt["mask_input"])
        corners = {int(label): xy for label, xy in zip(labels, coords, strict=True) if label >= 2}
        if corners:
            (x1, y1), (x2, y2) = corners[2], corners[3]
            inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
            logits = np.where(inside, np.float32(10), logits)
        for label, (px, py) in zip(labels, coords, strict=True):
            if label in (0, 1):
                distance = np.hypot(x - px, y - py)
                for i, radius in enumerate(RADII):
                    disc = distance < radius * self._manifest.image_size
                    logits[i][disc] = 10.0 if label == 1 else -10.0
        return logits

    def close(self) -> None:
        self._closed = True


def _means(images: npt.NDArray[np.float32], one: FeatureMap) -> npt.NDArray[Any]:
    """Return the mean of each cell of a map, its colours repeated over the channels."""
    channels, height, width = one.shape
    rows, columns = images.shape[2] // height, images.shape[3] // width
    cells = images.reshape(len(images), 3, height, rows, width, columns).mean(axis=(3, 5))
    whole = np.resize(cells.transpose(1, 0, 2, 3), (channels, len(images), height, width))
    return whole.transpose(1, 0, 2, 3).astype(one.dtype)
