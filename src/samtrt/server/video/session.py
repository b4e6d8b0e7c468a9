"""One open video: what was said of its objects, what is remembered of them, and what was found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from samtrt.errors import PromptError
from samtrt.server.errors import ApiError
from samtrt.server.settings import Settings
from samtrt.server.video.frames import RemoteFrames
from samtrt.server.video.kept import KeptMasks
from samtrt.server.video.room import Room
from samtrt.server.video.schemas import (
    FrameMasks,
    SaidBefore,
    TrackRequest,
    VideoAnswer,
    VideoPrompt,
)
from samtrt.types import BoolArray
from samtrt.video.predictor import VideoPredictor
from samtrt.video.prompts import Prompt, check_prompts
from samtrt.video.state import Found


class VideoSession:
    """Methods but `use` may run engines and wait for frames: one thread at a time calls them.

    Attributes:
        lock: Held by who calls them. Tracking lets go of it between two frames.
        masks: What was found.
        still: Set while nobody tracks.
        stopping: Whether who tracks is to end.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        frames: RemoteFrames,
        predictor: VideoPredictor,
        settings: Settings,
    ) -> None:
        self.name, self.path, self.frames = name, path, frames
        self.lock = asyncio.Lock()
        self.masks = KeptMasks()
        self.still, self.stopping = asyncio.Event(), False
        self.still.set()
        self.last_used = time.monotonic()
        self._users = 0
        self._predictor, self._settings = predictor, settings
        self._state = predictor.init_state(frames)
        self._room = Room(predictor.engines, settings, self.pixels)
        self._said: dict[tuple[int, int], SaidBefore] = {}

    @property
    def tracking(self) -> bool:
        return not self.still.is_set()

    @property
    def objects(self) -> list[int]:
        return sorted(self._state.obj_ids)

    @property
    def pixels(self) -> int:
        return self.frames.facts.height * self.frames.facts.width

    @property
    def need(self) -> int:
        """Memory that a frame's masks take while they are made."""
        return self._room.need(len(self._state.tracks))

    @property
    def idle_seconds(self) -> float:
        """Seconds since anybody asked about it; 0 while somebody waits."""
        return 0.0 if self._users else time.monotonic() - self.last_used

    @contextmanager
    def use(self) -> Iterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self.last_used = time.monotonic()

    def describe(self, video_id: str) -> VideoAnswer:
        """Say what the video is, and what was said and found of it."""
        facts = self.frames.facts
        return VideoAnswer(
            id=video_id,
            name=self.name,
            width=facts.width,
            height=facts.height,
            frames=len(self.frames),
            times=list(facts.times),
            notices=list(facts.notices),
            objects=self.objects,
            prompts=[one for _, one in sorted(self._said.items())],
            found=self.masks.rows(),
            tracking=self.tracking,
        )

    def point(self, asked: VideoPrompt, mask: BoolArray | None) -> FrameMasks:
        """Take what is said of an object on a frame, and return all objects' masks on it.

        Raises:
            PromptError: where it cannot be meant, or there are too many objects.
            ImageError: where the frame does not decode. The video is as before then.
        """
        labels = [1] * len(asked.points) if asked.labels is None else asked.labels
        prompt = Prompt(asked.frame, asked.object, asked.points, labels, asked.box, mask)
        check_prompts([prompt], self._state.size, len(self.frames))
        self._room.check(self._state.tracks, asked.object)
        state, before = self._state, self._state.tracks.get(asked.object)
        said = dict(before.prompts) if before else {}
        try:
            if mask is not None:
                found = self._predictor.add_new_mask(state, prompt.frame, prompt.obj_id, mask)
            else:
                found = self._predictor.add_new_points_or_box(
                    state, prompt.frame, prompt.obj_id, **prompt.arguments
                )
        except BaseException:
            if before is None:
                state.tracks.pop(asked.object, None)
            else:
                before.prompts = said
            raise
        values = asked.model_dump(exclude={"mask"})
        self._said[asked.frame, asked.object] = SaidBefore(**values, mask=mask is not None)
        return self._record(found)

    def clear(self, frame: int, obj_id: int) -> FrameMasks:
        """Forget what was said of an object on a frame; without anything said it is removed.

        Raises:
            PromptError: where nothing was said.
        """
        if (frame, obj_id) not in self._said:
            raise PromptError(f"nothing was said of object {obj_id} on frame {frame}")
        del self._said[frame, obj_id]
        if all(other != obj_id for _, other in self._said):
            self.remove(obj_id)
        else:
            self._predictor.clear_all_prompts_in_frame(self._state, frame, obj_id, False)
        return self.masks.at(frame)

    def remove(self, obj_id: int) -> None:
        """Forget an object and its masks.

        Raises:
            PromptError: where there is no such object.
        """
        self._predictor.remove_object(self._state, obj_id, strict=True, need_output=False)
        self._said = {key: one for key, one in self._said.items() if key[1] != obj_id}
        self.masks.forget_object(obj_id)

    def settle(self, asked: TrackRequest) -> int:
        """Remember what was pointed at, and return where tracking is to begin.

        Raises:
            PromptError: where there is no object, or no such frame.
        """
        if asked.start is not None and asked.start >= len(self.frames):
            raise PromptError(
                f"there is no frame {asked.start}: the video has 0..{len(self.frames) - 1}"
            )
        self._predictor.settle(self._state)
        if asked.start is not None:
            return asked.start
        pick = min if asked.direction == "forward" else max
        return pick(frame for one in self._state.tracks.values() for frame in one.prompted)

    def steps(self, asked: TrackRequest, start: int) -> Generator[FrameMasks, None, None]:
        """Track, frame by frame; what is found is kept whether or not anybody takes it.

        Raises:
            ImageError: where a frame does not decode; those before are kept.
            ApiError: 413 where there is no more room for masks.
        """
        most = len(self.frames) if asked.frames is None else asked.frames
        if asked.direction == "forward":
            order = range(start, min(start + most, len(self.frames)))
        else:
            order = range(start, max(start - most, -1), -1)
        backward = asked.direction == "backward"
        with closing(self._predictor.track_frames(self._state, order, backward)) as steps:
            for found in steps:
                yield self._record(found)
                if not self._state.tracks:
                    return

    def _record(self, found: Found) -> FrameMasks:
        frame, ids, _ = found
        self.masks.keep(found, self._predictor.engines.manifest.mask_threshold)
        self._room.trim(self._state.tracks, frame)
        if self.masks.nbytes > self._settings.video_bytes:
            self.masks.forget(frame, ids)
            raise ApiError(
                413,
                f"the masks of this video take more than {self._settings.video_bytes:,} bytes: "
                "remove objects, or raise --video-memory",
            )
        return self.masks.at(frame)
