"""A video with its objects drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.errors import OutputError
from samtrt.files import write_atomic
from samtrt.masks.drawing import colour_of, draw_masks
from samtrt.masks.rle import Patch
from samtrt.types import BoolArray, Size, UInt8Array
from samtrt.video.frames import load_av, reason_of

_BASE = Fraction(1, 90_000)
"""Of times in the file, in seconds."""
_QUALITY = "20"


def draw_objects(frame: UInt8Array, masks: Mapping[int, BoolArray | Patch]) -> UInt8Array:
    """Draw the masks of objects, by their ids, each in its own colour on every frame."""
    return draw_masks(frame, masks.values(), [colour_of(one - 1) for one in masks] or None)


class VideoWriter:
    """Writes frames into a video file: H.264 where FFmpeg has it, else MPEG-4."""

    def __init__(self, container: Any, size: Size) -> None:
        av = load_av()
        self._container, self._av = container, av
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream = container.add_stream(codec, rate=30)  # a hint: each frame has its time
        height, width = size
        # Half of the colours' rows and columns are stored.
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _BASE
        if codec == "libx264":
            self._stream.options = {"crf": _QUALITY, "preset": "veryfast"}
        else:
            self._stream.bit_rate = 8 * height * width
        self._last = -1

    def add(self, frame: UInt8Array, time: Fraction) -> None:
        """Add a frame, uint8 [H, W, 3], RGB, shown from a time in seconds."""
        height, width = frame.shape[:2]
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._last = max(round(time / _BASE), self._last + 1)
        picture.pts, picture.time_base = self._last, _BASE
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        self._container.mux(self._stream.encode())


@contextmanager
def write_video(path: Path, size: Size) -> Iterator[VideoWriter]:
    """Open a video file of (height, width) `size`; it appears whole or not at all.

    Raises:
        MissingExtraError: where PyAV is not installed.
        OutputError: where the place cannot be written, or not as its suffix says.
    """
    av = load_av()
    with write_atomic(path) as temporary:
        try:
            with av.open(str(temporary), "w", format=path.suffix[1:] or "mp4") as container:
                writer = VideoWriter(container, size)
                yield writer
                writer.finish()
        except (av.error.FFmpegError, ValueError) as error:
            raise OutputError(f"cannot write {path}: {reason_of(error)}") from None
