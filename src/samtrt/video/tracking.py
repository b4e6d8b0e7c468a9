"""From frame to frame: what is remembered of objects, and where they are found by it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from samtrt.encoding import in_order
from samtrt.errors import PromptError
from samtrt.manifest import PROMPTED_FRAMES
from samtrt.types import Closeable, DeviceArray, Embedding, Tensor
from samtrt.video.engines import VideoEngines
from samtrt.video.masks import fill_holes
from samtrt.video.state import Found, VideoState
from samtrt.video.tracks import Output, Track, queues_of

FILL_HOLES = 8
"""Holes of so many low-res cells are filled (`fill_hole_area` of official `build_sam.py`)."""


class Tracker(Closeable):
    """Follow objects that were pointed at.

    Attributes:
        fill_hole_area: Holes in masks of up to so many low-res cells are filled; 0 fills none.
        prompted_frames: How many prompted frames of an object a frame attends to at most, the
            closest in time.
        add_all_frames_to_correct_as_cond: Whether a frame on which a tracked object is corrected
            counts as prompted, so that tracking from it on keeps the correction.
    """

    def __init__(
        self,
        engines: VideoEngines,
        fill_hole_area: int = FILL_HOLES,
        prompted_frames: int = PROMPTED_FRAMES,
        add_all_frames_to_correct_as_cond: bool = False,
    ) -> None:
        self.engines = engines
        self.fill_hole_area, self.prompted_frames = fill_hole_area, prompted_frames
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond

        self._mover = ThreadPoolExecutor(1, "memories")
        self._moves: list[Future[None]] = []

    def close(self) -> None:
        self._mover.shutdown()
        self.engines.close()

    def track_frames(
        self, state: VideoState, order: Iterable[int], reverse: bool = False
    ) -> Generator[Found, None, None]:
        """Find all objects on frames in turn; the next one is read and encoded meanwhile.

        What was prompted must be settled.
        """

        def encode(frame: int) -> Embedding | None:
            if all(frame in track.prompted for track in list(state.tracks.values())):
                return None
            known = state.encoded
            if known and known[0] == frame:
                return known[1]
            return self.engines.encode(state.frame(frame))

        with closing(in_order(order, encode, 1, ahead=1)) as ready:
            for frame, future in ready:
                if embedding := future.result():
                    state.encoded = frame, embedding
                yield self.track_frame(state, frame, reverse)

    def track_frame(self, state: VideoState, frame: int, reverse: bool = False) -> Found:
        """Find all objects on a frame, those together that were not prompted on it.

        One that is new since what was prompted was settled waits until that is done again.
        """
        tracks = {one: track for one, track in state.tracks.items() if track.prompted}
        moving = [track for track in tracks.values() if frame not in track.prompted]
        most = self.engines.most_objects or max(len(moving), 1)
        for some in (moving[i : i + most] for i in range(0, len(moving), most)):
            embedding = self._encoded(state, frame)
            outputs = self.engines.find(embedding, self._seen(state, some, frame, reverse))
            self.engines.remember(embedding, outputs)
            for track, output in zip(some, outputs, strict=True):
                track.others[frame] = self._filled(output)
        # Where far frames are forgotten, they are before this.
        reach = self.engines.video.pointers + 2
        self._move_to_host(moving, frame + reach * (1 if reverse else -1))
        found = []
        for track in tracks.values():
            track.tracked[frame] = reverse
            settled = track.settled(frame)
            assert settled is not None
            found.append(settled.masks)
        return frame, list(tracks), self.engines.at_size(found, state.size)

    def _move_to_host(self, tracks: Iterable[Track], frame: int) -> None:
        """Bring what is remembered of a frame to the host, beside the work on the next one."""
        for move in self._moves:
            move.result()
        far = (track.others.get(frame) for track in tracks)
        self._moves = [
            self._mover.submit(one.move_to_host)
            for one in far
            if one is not None and isinstance(one.memory, DeviceArray)
        ]

    def settle(self, state: VideoState) -> None:
        """Remember the frames that were prompted since the last time."""
        if not state.tracks:
            raise PromptError("no object is pointed at: add points, a box or a mask first")
        for obj_id, track in state.tracks.items():
            for is_prompted in (False, True):
                for frame, output in track.waiting(is_prompted).items():
                    if output.memory is None:
                        self.engines.remember(self._encoded(state, frame), [output])
                    (track.prompted if is_prompted else track.others)[frame] = output
                track.waiting(is_prompted).clear()
            if not track.prompted:
                raise PromptError(
                    f"object {obj_id} is pointed at on no frame: add points, a box or a mask"
                )
            for frame in track.prompted:
                track.others.pop(frame, None)

    def _seen(
        self, state: VideoState, tracks: Sequence[Track], frame: int, reverse: bool
    ) -> Tensor:
        if not all(track.prompted for track in tracks):
            raise PromptError("propagate first: nothing is remembered of the object yet")
        queues = queues_of(
            *(tracks, frame, reverse, len(state.frames), self.prompted_frames, self.engines.video)
        )
        return self.engines.attend(self._encoded(state, frame), queues)

    def _encoded(self, state: VideoState, frame: int) -> Embedding:
        """Encode a frame; the last one is kept, for a user who points at it again."""
        if state.encoded is None or state.encoded[0] != frame:
            state.encoded = frame, self.engines.encode(state.frame(frame))
        return state.encoded[1]

    def _filled(self, output: Output) -> Output:
        if self.fill_hole_area > 0:
            output.masks = fill_holes(output.masks, self.fill_hole_area)
        return output
