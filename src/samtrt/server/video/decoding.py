"""What a video's own process does: opens the file, and decodes the frames that are asked for.

Functions here run in processes of `readers`. FFmpeg reads what nobody has looked at; it may take
any time and memory, or crash, and whoever calls limits both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samtrt.errors import ImageError
from samtrt.types import UInt8Array
from samtrt.video.frames import FileFrames
from samtrt.video.limits import VideoLimits

BYTES_A_PIXEL = 64
"""Memory to decode a video, for each pixel of its frames: those that later ones refer to (16 of 1.5
or 3 bytes), those of its threads, and one in RGB."""
BYTES = 96 << 20
"""The same for whatever the size is: the library, a file's index."""

_opened: FileFrames | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a video before a frame of it was asked for.

    Attributes:
        height, width: Of its frames, upright.
        times: When each frame is shown, in seconds, from 0.
        notices: What was assumed of it.
    """

    height: int
    width: int
    times: tuple[float, ...]
    notices: tuple[str, ...]


def allowance_of(pixels: int) -> int:
    """Return the bytes that decoding frames of so many pixels may take."""
    return BYTES + pixels * BYTES_A_PIXEL


def open_video(path: Path, limits: VideoLimits) -> Facts:
    """Open a video and decode its first frame.

    Raises:
        ImageError: where it is none, or larger than allowed.
    """
    with _nameless(path):
        frames = _frames(path, limits)
        height, width = frames[0].shape[:2]
        times = tuple(round(float(time), 6) for time in frames.times)
        return Facts(height, width, times, frames.notices)


def read_frame(path: Path, limits: VideoLimits, index: int) -> UInt8Array:
    """Decode a frame of the video, which is opened where this process has not done so.

    Raises:
        ImageError: where it is damaged.
    """
    with _nameless(path):
        return _frames(path, limits)[index]


def _frames(path: Path, limits: VideoLimits) -> FileFrames:
    global _opened
    if _opened is None:
        _opened = FileFrames(path, limits)
    return _opened


@contextmanager
def _nameless(path: Path) -> Iterator[None]:
    """Leave the server's paths out of what is told."""
    try:
        yield
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), "the video")) from None
