"""Objects followed through a video: the methods of the official `SAM2VideoPredictor`.

Argument names, results and decisions are those of `sam2_video_predictor.py`; arrays are NumPy's.
Objects that are tracked on a frame go through the engines together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName
from samtrt.errors import ImageError, PromptError
from samtrt.masks.given import given_mask
from samtrt.preparation.host import check_image
from samtrt.types import UInt8Array
from samtrt.video.engines import NO_OBJECT, VideoEngines
from samtrt.video.memories import Floats
from samtrt.video.state import Found, VideoState
from samtrt.video.tracking import Tracker
from samtrt.video.tracks import Points, Track


class VideoPredictor(Tracker):
    """Follow what a user points at through a video; `Tracker` says how frames are tracked."""

    @classmethod
    def load(
        cls,
        directory: str | Path,
        backend: BackendName | str = BackendName.ONNXRUNTIME,
        options: BackendOptions | None = None,
    ) -> VideoPredictor:
        """Open a model directory; `VideoEngines.load` says what is raised."""
        return cls(VideoEngines.load(Path(directory), backend, options))

    def init_state(self, video_path: Sequence[UInt8Array]) -> VideoState:
        """Begin with a video.

        Args:
            video_path: Its frames, uint8 [H, W, 3], RGB, which may be read as they are asked for.

        Raises:
            ImageError: where the first is no such array, or this is a path.
            PromptError: where there is none.
        """
        if isinstance(video_path, str | Path):
            raise ImageError(
                f"give the frames of {video_path}, such as "
                "samtrt.video.frames.open_frames(path), not its path"
            )
        if not len(video_path):
            raise PromptError("the video has no frames")
        check_image(video_path[0])
        return VideoState(video_path)

    def add_new_points_or_box(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: npt.ArrayLike | None = None,
    ) -> Found:
        """Point at an object on a frame, for the first time or to correct it.

        Args:
            inference_state: Of the video.
            frame_idx: The frame, from 0.
            obj_id: Which object; a new id is a new object.
            points: [N, 2], XY in the video's pixels.
            labels: [N], 1 for the object and 0 for what is not of it.
            clear_old_points: Forget earlier points on this frame; else these are added to them.
            normalize_coords: Whether coordinates are in the video's pixels; else they are shares
                of its sides.
            box: XYXY, before all points.

        Returns:
            The frame, all objects' ids, and their logits on it at the video's size [N, 1, H, W].

        Raises:
            PromptError: where there is no such frame, or the points are not as said.
        """
        state = inference_state
        self._check_frame(state, frame_idx)
        given = Points.of(points, labels, box, clear_old_points)
        height, width = state.size
        scale = np.array((width, height), np.float32) if normalize_coords else np.float32(1)
        side = self.engines.manifest.image_size
        new = Points(given.coords / scale * np.float32(side), given.labels)
        track = state.tracks.get(obj_id, Track())
        before = track.prompts.get(frame_idx)
        if not clear_old_points and isinstance(before, Points):
            new = Points(
                np.concatenate([before.coords, new.coords]), np.append(before.labels, new.labels)
            )
        is_first = frame_idx not in track.tracked
        is_prompted = is_first or self.add_all_frames_to_correct_as_cond
        earlier = track.waiting(is_prompted).get(frame_idx) or track.settled(frame_idx)
        embedding = self._encoded(state, frame_idx)
        if is_first:
            seen = embedding.features
        else:
            seen = self._seen(state, [track], frame_idx, track.tracked[frame_idx])
        previous = earlier.masks if earlier else None
        output = self.engines.find(embedding, seen, new, previous)[0]
        state.tracks[obj_id] = track  # once nothing can fail any more
        track.prompts[frame_idx] = new
        track.waiting(is_prompted)[frame_idx] = self._filled(output)
        return self._answer(state, frame_idx, is_prompted)

    add_new_points = add_new_points_or_box

    def add_new_mask(
        self, inference_state: VideoState, frame_idx: int, obj_id: int, mask: npt.ArrayLike
    ) -> Found:
        """Say what an object is on a frame, by a mask, bool [H, W]; returns as for points."""
        state = inference_state
        self._check_frame(state, frame_idx)
        values = given_mask(mask)
        side = self.engines.manifest.image_size
        if values.shape != (side, side):
            real = Image.fromarray(values.astype(np.float32))
            values = np.asarray(real.resize((side, side), Image.Resampling.BILINEAR)) >= 0.5
        track = state.tracks.get(obj_id, Track())
        is_prompted = frame_idx not in track.tracked or self.add_all_frames_to_correct_as_cond
        output = self.engines.take_mask(self._encoded(state, frame_idx), values)
        state.tracks[obj_id] = track
        track.prompts[frame_idx] = values
        track.waiting(is_prompted)[frame_idx] = self._filled(output)
        return self._answer(state, frame_idx, is_prompted)

    def propagate_in_video(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Found]:
        """Follow all objects from frame to frame.

        Args:
            inference_state: Of the video.
            start_frame_idx: Where to begin; None for the first prompted frame.
            max_frame_num_to_track: How many frames after it; None for all.
            reverse: Whether time runs backwards.

        Raises:
            PromptError: where there is no object, or one without a prompt, or no such frame.
        """
        state = inference_state
        if start_frame_idx is not None:
            self._check_frame(state, start_frame_idx)
        self.settle(state)
        tracks = list(state.tracks.values())
        if start_frame_idx is None:
            start_frame_idx = min(frame for track in tracks for frame in track.prompted)
        count = len(state.frames)
        most = count if max_frame_num_to_track is None else max_frame_num_to_track
        if reverse:
            last = max(start_frame_idx - most, 0)
            order = range(start_frame_idx, last - 1, -1) if start_frame_idx else range(0)
        else:
            order = range(start_frame_idx, min(start_frame_idx + most, count - 1) + 1)
        yield from self.track_frames(state, order, reverse)

    def clear_all_prompts_in_frame(
        self, inference_state: VideoState, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> Found | None:
        """Forget what was said of an object on a frame; what was found stays, as if tracked."""
        state = inference_state
        track = state.tracks.setdefault(obj_id, Track())
        track.prompts.pop(frame_idx, None)
        track.waiting_prompted.pop(frame_idx, None)
        track.waiting_others.pop(frame_idx, None)
        if output := track.prompted.pop(frame_idx, None):
            track.others[frame_idx] = output
            track.tracked.pop(frame_idx, None)
        if not need_output:
            return None
        is_first = any(frame_idx in one.waiting_prompted for one in state.tracks.values())
        return self._answer(state, frame_idx, is_first)

    def remove_object(
        self,
        inference_state: VideoState,
        obj_id: int,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[int], list[tuple[int, Floats]]]:
        """Forget an object.

        Returns:
            The ids that are left, and new masks of the frames on which it was prompted.

        Raises:
            PromptError: where there is no such object and `strict` is asked for.
        """
        state = inference_state
        if obj_id not in state.tracks:
            if strict:
                known = ", ".join(map(str, state.tracks)) or "none"
                raise PromptError(f"there is no object {obj_id}; there are {known}")
            return state.obj_ids, []
        frames = list(state.tracks.pop(obj_id).prompts)
        if not need_output or not state.tracks:
            return state.obj_ids, []
        updated = []
        for frame in frames:
            is_first = any(frame in one.waiting_prompted for one in state.tracks.values())
            updated.append((frame, self._answer(state, frame, is_first)[2]))
        return state.obj_ids, updated

    def reset_state(self, inference_state: VideoState) -> None:
        """Forget all objects."""
        inference_state.tracks.clear()

    def _answer(self, state: VideoState, frame: int, is_first: bool) -> Found:
        """Return what is known of all objects on a frame, what waits before what is settled."""
        size = self.engines.manifest.mask_size
        nothing = np.full((size, size), NO_OBJECT, np.float32)
        outputs = [
            track.waiting(is_first).get(frame) or track.settled(frame)
            for track in state.tracks.values()
        ]
        masks = [output.masks if output else nothing for output in outputs]
        return frame, state.obj_ids, self.engines.at_size(masks, state.size)

    def _check_frame(self, state: VideoState, frame: int) -> None:
        is_whole = isinstance(frame, int | np.integer)
        if not is_whole or not 0 <= frame < len(state.frames):
            raise PromptError(
                f"there is no frame {frame}: the video has 0..{len(state.frames) - 1}"
            )
