"""Frames of cameras and network streams, as they come."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread

from samtrt.errors import ImageError
from samtrt.types import Closeable, UInt8Array
from samtrt.video.frames import load_av, reason_of, upright

_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's names of what reads cameras."""


def is_live(source: str) -> bool:
    """Tell whether a source is a camera, a pipe or a network stream, of unknown length."""
    if re.match(r"[a-z][a-z0-9+.-]+://", source):
        return True
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


class Camera(Closeable):
    """Frames of a live source, uint8 [H, W, 3], RGB; a loop over it takes them as they come.

    A thread decodes. Who is slower than a camera gets the newest frame: those between are dropped.
    A pipe waits instead, and drops none.

    Attributes:
        name: What its results are called.
        dropped: Frames that came and were not asked for in time.
    """

    def __init__(self, source: str) -> None:
        """Open a device such as /dev/video0, a pipe, or an address such as rtsp://...

        Raises:
            ImageError: where it cannot be opened, or has no video.
            MissingExtraError: where PyAV is not installed.
        """
        av = load_av()
        path = Path(source)
        self.name = re.sub(r"\W+", "-", path.name).strip("-") or "camera"
        is_address = "://" in source
        is_device = not is_address and stat.S_ISCHR(path.stat().st_mode)
        try:
            self._container = av.open(
                source, "r", format=_FORMATS.get(sys.platform) if is_device else None, timeout=10.0
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageError(f"cannot open {source}: {reason_of(error)}") from None
        if not self._container.streams.video:
            self._container.close()
            raise ImageError(f"{source} has no video in it")
        self._source, self._newest = source, is_device or is_address
        self.dropped = 0
        self._frames: Queue[UInt8Array | ImageError | None] = Queue(1)
        self._closed = Event()
        self._reader = Thread(target=self._decode, name="camera", daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[UInt8Array]:
        """Yield frames until there are no more; raises `ImageError` where the source fails."""
        while (frame := self._frames.get()) is not None:
            if isinstance(frame, ImageError):
                raise frame
            yield frame

    def _decode(self) -> None:
        av = load_av()
        last: ImageError | None = None
        try:
            for frame in self._container.decode(video=0):
                if not self._put(upright(frame), self._newest) or self._closed.is_set():
                    break
        except (av.error.FFmpegError, ValueError) as error:
            last = ImageError(f"{self._source} gives no more frames: {reason_of(error)}")
        finally:
            self._container.close()
            self._put(last, False)

    def _put(self, item: UInt8Array | ImageError | None, replace: bool) -> bool:
        """Hand something over; False where nobody waits for it any more."""
        while not self._closed.is_set():
            try:
                self._frames.put(item, timeout=0.1)
                return True
            except Full:
                if replace:
                    try:
                        self._frames.get_nowait()
                        self.dropped += 1
                    except Empty:
                        pass
        return False

    def close(self) -> None:
        self._closed.set()
        self._reader.join(timeout=10)
