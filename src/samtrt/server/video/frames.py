"""A video's frames as tracking takes them, decoded by a process of the video's own."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import TypeVar, overload

from samtrt.errors import ImageError
from samtrt.server.metrics import Metrics
from samtrt.server.readers import Reader, ReaderDiedError
from samtrt.server.settings import Settings
from samtrt.server.video.decoding import Facts, allowance_of, open_video, read_frame
from samtrt.types import Closeable, UInt8Array
from samtrt.video.limits import VideoLimits

log = logging.getLogger("samtrt.server")

T = TypeVar("T")

KEPT = 4
"""Decoded frames that are kept: whoever watches asks for those that were just tracked."""
_THREADS = 2


class RemoteFrames(Sequence[UInt8Array], Closeable):
    """Frames, uint8 [H, W, 3], RGB. Safe for threads, which wait for it: not for the event loop.

    The process is started when it is needed, and killed where a frame takes too long.

    Attributes:
        facts: What the file says of itself.
    """

    def __init__(self, path: Path, settings: Settings, metrics: Metrics) -> None:
        """Open a video.

        Raises:
            ImageError: where the file is none that can be read, or larger than allowed.
        """
        self._path, self._metrics = path, metrics
        self._seconds = settings.frame_seconds
        self._limits = VideoLimits(settings.max_video_frames, settings.max_video_pixels, _THREADS)
        self._allowance = allowance_of(settings.max_video_pixels)
        self._reader: Reader | None = None
        self._kept: OrderedDict[int, UInt8Array] = OrderedDict()
        self._lock = Lock()
        self._closed = Event()
        try:
            self.facts: Facts = self._call("the video", open_video)
        except BaseException:
            self.close()
            raise
        self._allowance = allowance_of(self.facts.height * self.facts.width)

    def __len__(self) -> int:
        return len(self.facts.times)

    @overload
    def __getitem__(self, index: int) -> UInt8Array: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[UInt8Array]: ...

    def __getitem__(self, index: int | slice) -> UInt8Array | Sequence[UInt8Array]:
        """Return a frame, or several.

        Raises:
            ImageError: where a frame cannot be decoded within the limits.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        with self._lock:
            found = self._kept.get(index)
            if found is None:
                found = self._call(f"frame {index}", read_frame, index)
                self._kept[index] = found
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return found

    def _call(self, what: str, work: Callable[..., T], *args: object) -> T:
        if self._closed.is_set():
            raise ImageError("the video was closed")
        if self._reader is None:
            self._reader = Reader()
            if self._closed.is_set():  # meanwhile: nobody else would end the process
                self._give_up()
                raise ImageError("the video was closed")
        try:
            return self._reader.call(
                self._seconds, self._allowance, work, self._path, self._limits, *args
            )
        except TimeoutError:
            self._give_up()
            raise ImageError(f"{what} did not decode within {self._seconds:g} s") from None
        except MemoryError:
            self._give_up()
            raise ImageError(
                f"{what} takes more memory to decode than {self._allowance:,} bytes"
            ) from None
        except ReaderDiedError as error:
            self._give_up()
            if not self._closed.is_set():  # else it was killed because nobody waits for it
                self._metrics.readers_died.inc()
                log.warning("%s", error)
            raise ImageError(f"{what} cannot be decoded: it is damaged") from None

    def _give_up(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.kill()

    def close(self) -> None:
        """Kill the process, whatever it does; threads that wait get an `ImageError`."""
        self._closed.set()
        self._give_up()
        self._kept.clear()
