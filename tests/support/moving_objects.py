# ruff: noqa: ARG002  (the engines of a model look at more)
"""Following without weights: what was pointed at moves to the right, frame by frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import Backend
from samtrt.manifest import Manifest, Video
from samtrt.types import Embedding
from samtrt.video.engines import VideoEngines
from samtrt.video.memories import Floats
from samtrt.video.tracks import Output, Points, Queues
from support.samples import make_manifest

STEP = 4
"""Pixels of the model's square that all objects move in a frame."""
RADIUS = 0.05
"""Of the disc around a point, as a share of the square."""


def video_manifest(**changes: object) -> Manifest:
    """Return a manifest of a model that follows objects, without files."""
    video = Video(
        memory_channels=64, memories=7, pointers=16, mask_weights=(0.0,) * 16, mask_bias=0.0
    )
    return make_manifest(video=video, **changes)


class MovingObjects(VideoEngines):
    """Boxes as drawn and discs around points, which move by `STEP` a frame.

    A pointer holds the object's box in the model's square.

    Attributes:
        open: A test holds up the finding of objects by clearing it.
        entered: Released for each call that finds objects.
        fails: Whether a call is to fail, given the number of calls so far.
    """

    def __init__(self, manifest: Manifest, encoder: Backend) -> None:
        super().__init__(manifest, encoder, {})
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.fails: Callable[[int], bool] = lambda _: False
        self.calls = 0

    def attend(self, embedding: Embedding, queues: Queues) -> Floats:
        # Of what is remembered, the nearest in time, which is the frame before.
        distances = np.where(queues.has_pointer > 0, np.abs(queues.pointer_distances), np.inf)
        rows, nearest = np.arange(len(distances)), distances.argmin(axis=1)
        moved: Floats = queues.pointers[rows, nearest, :4] + np.array(
            [STEP, 0, STEP, 0], np.float32
        )
        return moved

    def find(
        self,
        embedding: Embedding,
        objects: Floats,
        points: Points | None = None,
        previous: Floats | None = None,
    ) -> list[Output]:
        self.entered.release()
        assert self.open.wait(30), "the test forgot to open the gate"
        self.calls += 1
        if self.fails(self.calls):
            raise RuntimeError("secret detail of the engine")
        boxes = objects if points is None else np.array([_box_of(points, self.manifest)])
        return [self._output(box, points is not None) for box in boxes]

    def take_mask(self, embedding: Embedding, mask: npt.NDArray[np.bool_]) -> Output:
        rows, columns = np.nonzero(mask)
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        return self._output(np.array(box, np.float32), True)

    def remember(self, embedding: Embedding, outputs: Sequence[Output]) -> None:
        channels, height, width = self.video.memory_channels, *self.manifest.maps[0].shape[1:]
        for one in outputs:
            one.memory = np.zeros((channels, height, width), np.uint16)

    def close(self) -> None:
        """Nothing is open."""

    def _output(self, box: Any, is_users: bool) -> Output:
        size = self.manifest.mask_size
        centres = (np.arange(size, dtype=np.float32) + 0.5) * self.manifest.image_size / size
        x1, y1, x2, y2 = map(float, box)
        inside = np.minimum(centres - x1, x2 - centres)[None]
        inside = np.minimum(inside, np.minimum(centres - y1, y2 - centres)[:, None])
        pointer = np.zeros(256, np.float32)
        pointer[:4] = box
        return Output(inside, 10.0, pointer, is_users=is_users)


def _box_of(points: Points, manifest: Manifest) -> tuple[float, float, float, float]:
    corners = points.coords[np.isin(points.labels, (2, 3))]
    if len(corners) == 2:
        (x1, y1), (x2, y2) = corners
        return float(x1), float(y1), float(x2), float(y2)
    x, y = points.coords[points.labels == 1].mean(axis=0)
    radius = RADIUS * manifest.image_size
    return float(x - radius), float(y - radius), float(x + radius), float(y + radius)
