"""What all sources of a video's frames are: a sequence of pictures of one size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import Any, overload

from samtrt.errors import ImageError
from samtrt.types import Closeable, Size, UInt8Array


def check_size(frame: UInt8Array, size: Size, what: str, others: str) -> None:
    """Raise `ImageError` where a frame has not the (height, width) of the others."""
    height, width = frame.shape[:2]
    if (height, width) != size:
        raise ImageError(
            f"{what} is {width} x {height} and {others} {size[1]} x {size[0]}: a video has frames "
            "of one size"
        )


class Frames(Sequence[UInt8Array], Closeable):
    """A video's frames, uint8 [H, W, 3], RGB, all of one size, read as they are asked for.

    Any thread may ask; one is served at a time. Frames come upright, as players show them.

    Attributes:
        name: What its results are called.
        times: When each frame is shown, in seconds, from 0.
        notices: What was assumed of the video, one line each.
    """

    def __init__(self, path: Path, name: str, times: Sequence[Fraction]) -> None:
        # A folder gets the name, and "..." would lead out of where it is to be.
        self.path, self.name, self.times = path, name if name.strip(".") else "video", times
        self.notices: tuple[str, ...] = ()
        self._lock = Lock()
        self._size: Size | None = None

    def __len__(self) -> int:
        return len(self.times)

    @overload
    def __getitem__(self, index: int) -> UInt8Array: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[UInt8Array]: ...

    def __getitem__(self, index: int | slice) -> UInt8Array | Sequence[UInt8Array]:
        """Return a frame, or several.

        Raises:
            ImageError: where a frame is damaged, or of another size than those before.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        with self._lock:
            frame = self._read(index % len(self))
        self._size = self._size or (frame.shape[0], frame.shape[1])
        check_size(frame, self._size, f"{self.path}: frame {index}", "others are")
        return frame

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """What files of the frames are called."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells this video from others."""

    @abstractmethod
    def _read(self, index: int) -> UInt8Array:
        """Read a frame that there is; raises `ImageError`."""
