"""The masks that were found in an open video."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from samtrt.masks import rle
from samtrt.server.schemas import Rle
from samtrt.server.video.schemas import FoundMasks, FrameMasks, VideoMask
from samtrt.video.state import Found


class KeptMasks:
    """By frame and object, with the bytes that they take.

    Attributes:
        nbytes: About how many, of all.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._frames: dict[int, dict[int, VideoMask]] = {}

    def rows(self) -> list[tuple[int, int]]:
        """Return first and last frame of each row of frames that have masks."""
        frames = sorted(self._frames)
        breaks = [i for i, (a, b) in enumerate(pairwise(frames), start=1) if b != a + 1]
        return [
            (frames[start], frames[end - 1])
            for start, end in pairwise([0, *breaks, len(frames)])
            if end > start
        ]

    def at(self, frame: int) -> FrameMasks:
        """Return what was found on a frame."""
        return FrameMasks(frame=frame, masks=list(self._frames.get(frame, {}).values()))

    def part(self, first: int, most: int, room: int) -> FoundMasks:
        """Return masks from a frame on: of `most` frames, and of one or of `room` bytes."""
        frames: list[FrameMasks] = []
        for frame in sorted(one for one in self._frames if one >= first):
            found = self.at(frame)
            room -= sum(map(_size, found.masks))
            if frames and (len(frames) == most or room < 0):
                return FoundMasks(frames=frames, next=frame)
            frames.append(found)
        return FoundMasks(frames=frames)

    def keep(self, found: Found, threshold: float) -> None:
        """Keep the masks of all objects on a frame in place of those that were there.

        Args:
            found: Frame, ids, and logits [N, 1, H, W].
            threshold: What logits of a mask are above.
        """
        frame, ids, logits = found
        self.forget(frame, ids)
        made = self._frames.setdefault(frame, {})
        for obj_id, part in sorted(zip(ids, logits, strict=True), key=lambda one: one[0]):
            mask = rle.encode(part[0] > threshold)
            made[obj_id] = VideoMask(
                object=obj_id,
                area=rle.area(mask),
                bbox=list(rle.coco_box(mask)),
                rle=Rle(**rle.compress(mask)),
            )
            self.nbytes += _size(made[obj_id])

    def forget(self, frame: int, objects: Iterable[int]) -> None:
        """Forget masks of a frame."""
        made = self._frames.get(frame, {})
        for obj_id in set(objects) & made.keys():
            self.nbytes -= _size(made.pop(obj_id))
        if not made:
            self._frames.pop(frame, None)

    def forget_object(self, obj_id: int) -> None:
        """Forget all masks of an object."""
        for frame in list(self._frames):
            self.forget(frame, [obj_id])


def _size(mask: VideoMask) -> int:
    """About how many bytes a mask takes here."""
    return len(mask.rle.counts) + 600
