"""A SAM 2 without weights that follows objects: masks are bright places near remembered ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import OBJECT_SCORES, Arrays, HostBackend, stage_tensors
from samtrt.backends.fake import FakeBackend
from samtrt.choices import AnyStage, Stage, VideoStage
from samtrt.manifest import Manifest
from samtrt.video.engines import VideoEngines

Made = dict[str, npt.NDArray[Any]]


def fake_stage(manifest: Manifest, stage: AnyStage) -> HostBackend:
    """Return a stage without weights."""
    return FakeBackend(manifest, stage) if isinstance(stage, Stage) else FakeVideo(manifest, stage)


def fake_engines(manifest: Manifest) -> VideoEngines:
    """Return a model that follows objects on the host."""
    stages = {stage: fake_stage(manifest, stage) for stage in VideoStage}
    return VideoEngines(manifest, fake_stage(manifest, Stage.ENCODER), stages)


class FakeVideo(HostBackend):
    """One of the stages for videos. What it makes depends on all that it is given."""

    name, device = "fake", "cpu"

    def __init__(self, manifest: Manifest, stage: VideoStage) -> None:
        self._stage, self._size = stage, manifest.mask_size
        inputs, outputs = stage_tensors(manifest, stage)
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}

    def _compute(self, feeds: Arrays) -> Made:
        match self._stage:
            case VideoStage.MEMORY_ATTENTION:
                return self._attend(**feeds)
            case VideoStage.MEMORY_ENCODER:
                return self._remember(**feeds)
            case VideoStage.VIDEO_DECODER:
                return self._decode(feeds)

    def _attend(self, image_embeddings: Any, memories: Any, **feeds: Any) -> Made:
        """Add the mean of what is remembered, later memories and pointers weighing more."""
        shares = feeds["has_memory"] * (1 + feeds["memory_times"])
        shares /= shares.sum(axis=1, keepdims=True)
        remembered = np.einsum("nk,nkcyx->nyx", shares, memories) / memories.shape[2]
        weights = feeds["has_pointer"] * (1 - feeds["pointer_distances"] / 2)
        told = (weights[:, :, None] * feeds["pointers"]).mean(axis=(1, 2))
        seen = image_embeddings + remembered[:, None] + told[:, None, None, None]
        return {"object_embeddings": seen.astype(np.float32)}

    def _remember(self, low_res_masks: Any, **feeds: Any) -> Made:
        """Keep where the mask is, in values that bfloat16 holds."""
        count, side = len(low_res_masks), self._size // 4
        cells = (low_res_masks > 0).reshape(count, side, 4, side, 4).mean(axis=(2, 4))
        there = feeds[OBJECT_SCORES] + feeds["binarize"] > 0
        values = np.round(cells * 8) / 8 * there[:, None, None]
        return {"memories": np.repeat(values[:, None], 64, axis=1).astype(np.float32)}

    def _decode(self, feeds: Arrays) -> Made:
        """Find what is bright, and what is near a point."""
        objects, size = feeds["object_embeddings"], self._size
        own = objects.mean(axis=(1, 2, 3), keepdims=True)
        bright = objects[:, :4].repeat(4, axis=2).repeat(4, axis=3) - own
        centres = (np.arange(size) + 0.5) * 4
        for i, (coords, labels) in enumerate(
            zip(feeds["point_coords"], feeds["point_labels"], strict=True)
        ):
            for (x, y), label in zip(coords, labels, strict=True):
                near = np.hypot(centres[None] - x, centres[:, None] - y) < 40
                bright[i] += np.where(near, 3, -1) * (label == 1)
        logits = bright - np.arange(4)[None, :, None, None] / 8
        scores = logits.mean(axis=(1, 2, 3)) + 1 - feeds["absent"]
        ious = logits.std(axis=(2, 3))
        pointers = np.repeat(ious[:, :, None], 256, axis=2)
        made = {"low_res_masks": logits, "iou_predictions": ious, OBJECT_SCORES: scores}
        return {
            name: one.astype(np.float32) for name, one in {**made, "pointers": pointers}.items()
        }

    def close(self) -> None:
        """Hold nothing."""
