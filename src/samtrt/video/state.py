"""A video that is worked on, and what was said and found of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from samtrt.preparation.host import check_image
from samtrt.types import Embedding, Size, UInt8Array
from samtrt.video.memories import Floats
from samtrt.video.sequence import check_size
from samtrt.video.tracks import Track

Found = tuple[int, list[int], Floats]
"""A frame's number, the objects' ids, and their logits at the video's size, [N, 1, H, W]."""


@dataclass
class VideoState:
    """A video and what was said and found of it.

    Attributes:
        frames: uint8 [H, W, 3] each, RGB, all of one size.
        tracks: Of each object, by the id that the user gave it.
    """

    frames: Sequence[UInt8Array]
    tracks: dict[int, Track] = field(default_factory=dict)
    encoded: tuple[int, Embedding] | None = None

    @cached_property
    def size(self) -> Size:
        """Height and width of the video: to look at its first frame again would seek back."""
        height, width = self.frames[0].shape[:2]
        return height, width

    def frame(self, index: int) -> UInt8Array:
        """Return a frame.

        Raises:
            ImageError: where it is damaged, or of another size than the first.
        """
        frame = check_image(self.frames[index])
        check_size(frame, self.size, f"frame {index}", "the first is")
        return frame

    @property
    def obj_ids(self) -> list[int]:
        return list(self.tracks)
