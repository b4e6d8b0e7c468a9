"""Frames of videos: of files and folders by their number."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.errors import ImageError, MissingExtraError
from samtrt.files import sha256_of
from samtrt.images import ReadOptions
from samtrt.types import UInt8Array
from samtrt.video.folder import FolderFrames
from samtrt.video.limits import OPTIONS, VideoLimits
from samtrt.video.sequence import Frames

_SILENT_END = Fraction(1, 3)
"""Seconds that a file may last longer than its last frame, as sound often does."""


def open_frames(
    path: Path, options: ReadOptions | None = None, tell: Callable[[str], None] | None = None
) -> Frames:
    """Open a video file, or a folder whose pictures are the frames, in the order of their numbers.

    Args:
        path: Of either.
        options: How pictures are read.
        tell: Called with what was assumed to read them, once; None for an `ImageNotice`.

    Raises:
        ImageError: where there is no such video, or it has no frame.
        MissingExtraError: for a file, where PyAV is not installed.
    """
    return FolderFrames(path, options, tell) if path.is_dir() else FileFrames(path)


class FileFrames(Frames):
    """Frames of a video file, in the order in which they are shown.

    The whole file is gone through once, without decoding, to know how many frames there are and
    when each is shown: what its header promises may not be there.
    """

    def __init__(self, path: Path, limits: VideoLimits | None = None) -> None:
        self.path, self._limits = path, limits or VideoLimits()
        container, stream = self._open()
        promised, lasts = stream.frames, Fraction(container.duration or 0, 1_000_000)
        base = stream.time_base or Fraction(1, 1000)  # now: the stream is gone with its file
        shown: list[tuple[int, bool]] = []
        av = load_av()
        try:
            for packet in container.demux(stream):
                if packet.size and packet.is_discard:
                    promised -= 1  # cut away, and still in the file
                elif packet.size:
                    shown.append((_pts_of(packet, path), packet.is_keyframe))
                    self._limits.check_count(len(shown), str(path))
            if shown == sorted(shown) and _is_reordered_untold(container, stream):
                raise ImageError(_untimed(path))
        except av.error.FFmpegError:
            promised = max(promised, len(shown) + 1)
        finally:
            container.close()
        if not shown:
            raise ImageError(f"{path} has no frame of a video")
        shown.sort()
        self._pts = [pts for pts, _ in shown]
        self._number = {pts: i for i, pts in enumerate(self._pts)}
        self._keys = [i for i, (_, is_key) in enumerate(shown) if is_key] or [0]
        times = [(pts - self._pts[0]) * base for pts in self._pts]
        super().__init__(path, path.stem, times)
        last = max(times[-1], self._pts[-1] * base)  # some count from the first frame, some from 0
        if promised > len(shown) or lasts - last > _SILENT_END:
            self.notices = (
                f"the file is cut off, or lasts longer than its pictures: its {len(shown)} frames "
                f"end after {float(times[-1]):.2f} s",
            )
        self._container: Any = None
        self._decoded: Any = None
        self._next = self._key = 0

    @property
    def names(self) -> list[str]:
        return [f"{i:05d}.png" for i in range(len(self))]

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.path.name, "sha256": sha256_of(self.path)}

    def _open(self) -> tuple[Any, Any]:
        av = load_av()
        if not self.path.is_file():
            raise ImageError(f"there is no video at {self.path}")
        try:
            container = av.open(str(self.path), "r", container_options=OPTIONS)
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageError(
                f"{self.path} is no video that can be read: {reason_of(error)}"
            ) from None
        try:
            cover = av.stream.Disposition.attached_pic
            videos = [one for one in container.streams.video if not one.disposition & cover]
            if not videos:
                raise ImageError(f"{self.path} has no video in it")
            stream = videos[0]
            self._prepare(stream)
        except BaseException:
            container.close()
            raise
        return container, stream

    def _prepare(self, stream: Any) -> None:
        """Check a stream before any of it is decoded here."""
        codec = stream.codec_context
        if codec is None:  # FFmpeg has no decoder for it
            raise ImageError(f"{self.path} is coded in a way that is not read: bring it to H.264")
        self._limits.check_codec(codec.codec.canonical_name, str(self.path))
        self._limits.check_size(stream.width, stream.height, str(self.path))
        codec.options = {"max_pixels": str(self._limits.pixels)}
        stream.thread_type = "AUTO"
        if self._limits.threads:
            codec.thread_count = self._limits.threads

    def _read(self, index: int) -> UInt8Array:
        key = max((i for i in self._keys if i <= index), default=0)
        if self._container is None or not key <= self._next <= index:
            self._go_to(key)
        try:
            found = self._decode_to(index)
            if found is None and key:  # what the key promised was not there
                self._go_to(0)
                found = self._decode_to(index)
        except ImageError:
            self.close()
            raise
        if found is None:
            self.close()
            raise ImageError(f"{self.path}: frame {index} is not there: the file is damaged")
        return found

    def _decode_to(self, index: int) -> UInt8Array | None:
        """Decode up to a frame; None where those that come are all behind it."""
        av = load_av()
        try:
            for frame in self._decoded:
                number = self._number.get(frame.pts, -1)
                if number < index:
                    if frame.is_corrupt and number >= self._key:
                        if self._key:  # from further back it may be whole
                            return None
                        raise ImageError(
                            f"{self.path}: frame {index} is damaged: it depends on frame {number}"
                        )
                    continue
                self._next = number + 1
                if number > index:
                    return None
                if frame.is_corrupt:
                    raise ImageError(f"{self.path}: frame {index} is damaged")
                return upright(frame)
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageError(
                f"{self.path}: frame {index} does not decode: {reason_of(error)}"
            ) from None
        return None

    def _go_to(self, key: int) -> None:
        """Begin to decode anew at a frame that depends on none before."""
        self.close()
        av = load_av()
        self._container, stream = self._open()
        if key:
            try:
                self._container.seek(self._pts[key], stream=stream)
            except av.error.FFmpegError:  # a file that cannot be searched is read from its start
                self.close()
                self._container, stream = self._open()
        self._decoded, self._next, self._key = self._container.decode(stream), key, key

    def close(self) -> None:
        container, self._container, self._decoded = self._container, None, None
        if container is not None:
            container.close()


def _pts_of(packet: Any, path: Path) -> int:
    """Return when a packet's frame is shown; raises `ImageError` where it does not say so."""
    if packet.pts is None:
        raise ImageError(_untimed(path))
    return int(packet.pts)


def _is_reordered_untold(container: Any, stream: Any) -> bool:
    """Tell whether frames are shown in another order than that of a form which counts them so.

    AVI counts frames as they are stored, which tells nothing of H.264's order.
    """
    reordered = stream.codec_context.has_b_frames
    codec = stream.codec_context.codec.canonical_name
    return container.format.name == "avi" and reordered and codec in ("h264", "hevc")


def _untimed(path: Path) -> str:
    return (
        f"{path} does not say when its frames are shown: bring it to MP4 with ffmpeg, or its "
        "frames to pictures in a folder"
    )


def upright(frame: Any) -> UInt8Array:
    """Return a decoded frame as players show it: telephones store how they were held."""
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def reason_of(error: Exception) -> str:
    """Say in a few words why FFmpeg failed."""
    return str(getattr(error, "strerror", None) or error)


def load_av() -> Any:
    """Import PyAV; raises `MissingExtraError`."""
    try:
        import av
    except ImportError:
        raise MissingExtraError("Reading videos", "video", "av") from None
    return av
