"""What is kept of each object, and which of it a frame attends to.

The rules are those of the official `SAM2Base._prepare_memory_conditioned_features`: memories of
prompted frames, then of the six frames before; pointers of prompted frames that have been, then of
the fifteen frames before. Here both lie in queues of a fixed size, whose empty places are masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from samtrt.errors import PromptError
from samtrt.manifest import Video
from samtrt.types import Tensor
from samtrt.video.memories import Floats, Remembered, on_host, queued


@dataclass
class Output:
    """What was found of one object on one frame.

    Attributes:
        masks: Low-res logits [M, M].
        score: Above 0 where the object is there.
        pointer: [256].
        memory: As `memories` says; None where it is not made yet.
        is_users: Whether a user's prompt made it.
    """

    masks: Floats
    score: float
    pointer: Floats
    memory: Remembered | None = None
    is_users: bool = False

    def move_to_host(self) -> None:
        """Bring what is remembered to the host, from the GPU that it lies on."""
        assert self.memory is not None
        self.memory = on_host(self.memory)


@dataclass(frozen=True)
class Points:
    """A user's points on one frame, in the model's square: [N, 2] and labels [N]."""

    coords: Floats
    labels: Floats

    @classmethod
    def of(
        cls,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        clear_old_points: bool = True,
    ) -> Points:
        """Check points and put a box before them, as two with the labels 2 and 3.

        Args:
            points: XY, [N, 2]; None for none.
            labels: [N], 1 for the object and 0 for what is not of it.
            box: XYXY.
            clear_old_points: Whether nothing comes before, which a box needs.

        Raises:
            PromptError: where they do not go together.
        """
        if (points is None) != (labels is None):
            raise PromptError("points and labels go together")
        if points is None and box is None:
            raise PromptError("give points or a box")
        if box is not None and not clear_old_points:
            raise PromptError("a box comes before all points: leave out clear_old_points=False")
        coords, kinds = _numbers(points, "points"), _numbers(labels, "labels").reshape(-1)
        if coords.size and coords.shape[-1] != 2:
            raise PromptError(f"points are x, y each: [N, 2], not of the shape {coords.shape}")
        coords = coords.reshape(-1, 2)
        if len(coords) != len(kinds) or not np.isin(kinds, (0, 1)).all():
            raise PromptError(
                "labels are one a point, 1 for the object and 0 for what is not of it"
            )
        if not len(coords) and box is None and clear_old_points:
            raise PromptError("give points or a box")
        if box is not None:
            corners = _numbers(box, "a box")
            if corners.size != 4:
                raise PromptError(f"a box is x1, y1, x2, y2, not of the shape {corners.shape}")
            x1, y1, x2, y2 = corners.reshape(4)
            if x2 <= x1 or y2 <= y1:
                raise PromptError(
                    f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is empty: it must be x1, y1, x2, y2 "
                    "with x1 < x2, y1 < y2 (of x, y, width, height: x, y, x + width, y + height)"
                )
            coords = np.concatenate([corners.reshape(2, 2), coords])
            kinds = np.concatenate([np.array([2, 3], np.float32), kinds])
        if not np.isfinite(coords).all():
            raise PromptError("points must be finite numbers")
        return cls(coords, kinds)


def _numbers(values: npt.ArrayLike | None, what: str) -> Floats:
    try:
        return np.asarray([] if values is None else values, np.float32)
    except (TypeError, ValueError):
        raise PromptError(f"{what} must be numbers, the same count in each") from None


@dataclass
class Track:
    """One object.

    Attributes:
        prompts: What a user said, by frame: points, or a mask, bool [S, S].
        prompted, others: What was found on frames that a user prompted first, and on all others.
        waiting: As these two, of prompts since the last propagation.
        tracked: Frames that were tracked, and whether backwards.
    """

    prompts: dict[int, Points | npt.NDArray[np.bool_]] = field(default_factory=dict)
    prompted: dict[int, Output] = field(default_factory=dict)
    others: dict[int, Output] = field(default_factory=dict)
    waiting_prompted: dict[int, Output] = field(default_factory=dict)
    waiting_others: dict[int, Output] = field(default_factory=dict)
    tracked: dict[int, bool] = field(default_factory=dict)

    def waiting(self, is_prompted: bool) -> dict[int, Output]:
        return self.waiting_prompted if is_prompted else self.waiting_others

    def forget_far(self, frame: int, reach: int, also: int | None = None) -> None:
        """Forget what was found of frames that are further than `reach` from one, or from `also`.

        What was found where a user prompted stays.
        """

        def is_near(at: int) -> bool:
            return abs(at - frame) <= reach or (also is not None and abs(at - also) <= reach)

        self.others = {at: one for at, one in self.others.items() if is_near(at)}
        self.tracked = {at: one for at, one in self.tracked.items() if is_near(at)}
        self.prompts = {at: one for at, one in self.prompts.items() if is_near(at)}

    def settled(self, frame: int) -> Output | None:
        """Return what was found on a frame before the prompts that wait."""
        return self.prompted.get(frame) or self.others.get(frame)


@dataclass(frozen=True)
class Queues:
    """What `memory_attention` takes of N objects beside the image: arrays by its inputs' names.

    All are on the host, but for memories where those are on a GPU.
    """

    memories: Tensor
    memory_times: Floats
    has_memory: Floats
    pointers: Floats
    pointer_distances: Floats
    has_pointer: Floats


def closest(frames: Iterable[int], frame: int, most: int) -> list[int]:
    """Choose prompted frames to attend to, in order (official `select_closest_cond_frames`)."""
    every = list(frames)
    if len(every) <= most:
        return every
    before = max((one for one in every if one < frame), default=None)
    after = min((one for one in every if one >= frame), default=None)
    chosen = [one for one in (before, after) if one is not None][:most]
    rest = sorted((one for one in every if one not in chosen), key=lambda one: abs(one - frame))
    return chosen + rest[: most - len(chosen)]


def queues_of(
    tracks: Sequence[Track], frame: int, backwards: bool, frames: int, prompted: int, video: Video
) -> Queues:
    """Collect what a frame attends to.

    Queues have a place for each prompted frame that counts, and for all frames before this one that
    could: their length is the same from the first frame of a video to the last.

    Args:
        tracks: Of N objects; each has a prompted frame.
        frame: Which is to be tracked.
        backwards: Whether time runs backwards.
        frames: In the video; pointers of short videos have shorter distances.
        prompted: How many prompted frames count at most.
        video: How many memories and pointers the model tells apart.
    """
    first = next(iter(tracks[0].prompted.values()))
    recent, longest = video.memories - 1, min(frames, video.pointers) - 1
    chosen = [closest(track.prompted, frame, prompted) for track in tracks]
    count, most = len(tracks), max(map(len, chosen))
    memories, pointers = (count, most + recent), (count, most + video.pointers - 1)
    found = Queues(
        memories=np.zeros(0, np.float32),  # in the end
        memory_times=np.zeros(memories, np.float32),
        has_memory=np.zeros(memories, np.float32),
        pointers=np.zeros((*pointers, len(first.pointer)), np.float32),
        pointer_distances=np.zeros(pointers, np.float32),
        has_pointer=np.zeros(pointers, np.float32),
    )
    step = 1 if backwards else -1
    kept: list[list[Remembered]] = [[] for _ in tracks]
    for row, (track, ours) in enumerate(zip(tracks, chosen, strict=True)):
        others = {at: one for at, one in track.prompted.items() if at not in ours} | track.others
        remembered = [(recent, track.prompted[at]) for at in ours]
        remembered += [
            (back - 1, others[frame + step * back])
            for back in range(recent, 0, -1)
            if frame + step * back in others
        ]
        pointed = [
            ((at - frame) * step, track.prompted[at])
            for at in ours
            if (at >= frame if backwards else at <= frame)
        ]
        pointed += [
            (back, others[frame + step * back])
            for back in range(1, longest + 1)
            if frame + step * back in others
        ]
        for place, (time, one) in enumerate(remembered):
            assert one.memory is not None
            kept[row].append(one.memory)
            found.memory_times[row, place] = time
            found.has_memory[row, place] = 1
        for place, (distance, one) in enumerate(pointed):
            found.pointers[row, place] = one.pointer
            found.pointer_distances[row, place] = distance / max(longest, 1)
            found.has_pointer[row, place] = 1
    return replace(found, memories=queued(kept, memories[1]))
