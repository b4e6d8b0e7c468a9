"""How much of a video's objects is remembered, and how many there may be."""

from __future__ import annotations

from collections.abc import Mapping

from samtrt.errors import PromptError
from samtrt.server.errors import ApiError
from samtrt.server.settings import Settings
from samtrt.video.engines import VideoEngines
from samtrt.video.tracks import Track

BYTES_A_PIXEL = 10
"""Memory to bring one object's mask to the video's size and encode it."""


class Room:
    """Of one video, whose frames have a number of pixels."""

    def __init__(self, engines: VideoEngines, settings: Settings, pixels: int) -> None:
        self._settings, self._pixels = settings, pixels
        manifest, self._video = engines.manifest, engines.video
        _, height, width = manifest.maps[0].shape
        memory = 2 * self._video.memory_channels * height * width
        one = 4 * manifest.mask_size**2 + memory + 4096
        # As many objects' frames, at least those that the next frame may attend to.
        self._most = max(2 * self._video.pointers, settings.video_bytes // one)

    def need(self, objects: int) -> int:
        """Return the memory that a frame's masks take while they are made."""
        return max(1, objects) * self._pixels * BYTES_A_PIXEL

    def check(self, tracks: Mapping[int, Track], obj_id: int) -> None:
        """Refuse an object, or a prompted frame, for which there is no room.

        Raises:
            PromptError: for an object more than are followed.
            ApiError: 413 where memory has no room.
        """
        settings = self._settings
        objects = len(tracks) + (obj_id not in tracks)
        if objects > settings.max_video_objects:
            raise PromptError(f"the server follows {settings.max_video_objects} objects at most")
        if self.need(objects) > settings.memory_bytes:
            raise ApiError(
                413,
                f"{objects} objects in frames of {self._pixels:,} pixels take more memory than "
                f"the limit of {settings.memory_bytes:,} bytes: raise --memory",
            )
        told = sum(len(one.prompted) + len(one.waiting_prompted) for one in tracks.values())
        if told >= self._most:
            raise ApiError(
                413,
                f"{told} prompts are as many as {settings.video_bytes:,} bytes have room for: "
                "raise --video-memory",
            )

    def trim(self, tracks: Mapping[int, Track], frame: int) -> None:
        """Let go of what is farthest in time from a frame; prompted frames stay."""
        every = list(tracks.values())
        told = sum(len(one.prompted) for one in every)
        if told + sum(len(one.others) for one in every) <= self._most:
            return
        reach = max(self._video.pointers, (self._most - told) // len(every) // 2)
        for one in every:
            one.forget_far(frame, reach)
