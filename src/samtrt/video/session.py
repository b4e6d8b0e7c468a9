"""Objects followed as frames come, from a camera: nothing is kept that no later frame asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from samtrt.errors import ImageError, PromptError
from samtrt.preparation.host import check_image
from samtrt.types import UInt8Array
from samtrt.video.predictor import VideoPredictor
from samtrt.video.state import Found, VideoState
from samtrt.video.tracks import Track


class StreamingSession:
    """Follow objects through frames that come one by one, for as long as they come.

    A new object, or a correction, is pointed at on the frame that came last. Memory is bounded: of
    each object the latest prompted frames are kept that a frame attends to, and of all others those
    of which pointers count.
    """

    def __init__(self, predictor: VideoPredictor) -> None:
        self._predictor = predictor
        self._pointers = predictor.engines.video.pointers
        self._frames = _LastFrame(self._pointers)
        self._state = VideoState(self._frames)

    @property
    def frame_idx(self) -> int:
        """The number of the frame that came last, from 0; -1 before the first."""
        return self._frames.seen - 1

    @property
    def obj_ids(self) -> list[int]:
        return self._state.obj_ids

    def track(self, frame: UInt8Array) -> Found:
        """Take the next frame, uint8 [H, W, 3], RGB, and find all objects on it.

        Returns:
            Its number, all objects' ids, and their logits, [N, 1, H, W]; N is 0 before there is
            an object.

        Raises:
            ImageError: where it is not such an array, or of another size than those before.
        """
        self._frames.take(frame)
        if not self._state.tracks:
            return self.frame_idx, [], np.zeros((0, 1, *self._state.size), np.float32)
        self._predictor.settle(self._state)
        found = self._predictor.track_frame(self._state, self.frame_idx)
        for track in self._state.tracks.values():
            self._forget(track)
        return found

    def add_new_points_or_box(
        self,
        obj_id: int,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        clear_old_points: bool = True,
        box: npt.ArrayLike | None = None,
    ) -> Found:
        """Point at an object on the last frame; as of `VideoPredictor`."""
        return self._predictor.add_new_points_or_box(
            self._begun(), self.frame_idx, obj_id, points, labels, clear_old_points, box=box
        )

    def add_new_mask(self, obj_id: int, mask: npt.ArrayLike) -> Found:
        """Say by a mask what an object is on the last frame; as of `VideoPredictor`."""
        return self._predictor.add_new_mask(self._begun(), self.frame_idx, obj_id, mask)

    def remove_object(self, obj_id: int, strict: bool = False) -> list[int]:
        """Forget an object, and return the ids that are left."""
        return self._predictor.remove_object(self._state, obj_id, strict, need_output=False)[0]

    def _begun(self) -> VideoState:
        if self.frame_idx < 0:
            raise PromptError("no frame has come yet: call track(frame) first")
        return self._state

    def _forget(self, track: Track) -> None:
        track.forget_far(self.frame_idx, self._pointers)
        latest = sorted(track.prompted)[-self._predictor.prompted_frames :]
        track.prompted = {frame: track.prompted[frame] for frame in latest}


class _LastFrame(Sequence[UInt8Array]):
    """A video without end, of which the last frame is there."""

    def __init__(self, least: int) -> None:
        self.seen = 0
        self._least = least
        self._last: UInt8Array | None = None

    def take(self, frame: UInt8Array) -> None:
        check_image(frame)
        if self._last is not None and frame.shape != self._last.shape:
            raise ImageError(
                f"the frame is {frame.shape[1]} x {frame.shape[0]} and those before were "
                f"{self._last.shape[1]} x {self._last.shape[0]}: begin a session for it"
            )
        self._last, self.seen = frame, self.seen + 1

    def __len__(self) -> int:
        # Distances in time are those of videos that are not short.
        return max(self.seen, self._least)

    @overload
    def __getitem__(self, index: int) -> UInt8Array: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[UInt8Array]: ...

    def __getitem__(self, index: int | slice) -> UInt8Array | Sequence[UInt8Array]:
        if self._last is None or index not in (0, self.seen - 1):  # 0 for the size of all
            raise IndexError(index)
        return self._last
