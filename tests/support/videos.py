"""Videos for tests, frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from support.oracle import random_image


def moving_picture(frames: int, size: tuple[int, int]) -> list[np.ndarray]:
    """A picture that the camera passes over, with two squares that move by themselves.

    Returns:
        Frames, uint8 [H, W, 3], RGB, of (height, width) `size`.
    """
    height, width = size
    large = random_image(height + 40, width + 60)
    found = []
    for i in range(frames):
        frame = large[i : i + height, 2 * i : 2 * i + width].copy()
        for k, colour in enumerate(((240, 30, 40), (30, 220, 60))):
            y, x = 10 + 30 * k + i, 100 - 3 * i + 20 * k
            frame[y : y + 22, x : x + 22] = colour
        found.append(frame)
    return found


def numbered(frames: int) -> list[np.ndarray]:
    """Frames, uint8 [48, 64, 3], whose red is eight times their number."""
    return [np.full((48, 64, 3), (8 * i, 60, 120), np.uint8) for i in range(frames)]


def write_video(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "libx264",
    times: list[Fraction] | None = None,
    turn: int = 0,
) -> Path:
    """Write a video of 25 frames a second, or with each frame shown at a time in seconds.

    Args:
        path: By its suffix MP4, Matroska or another.
        frames: uint8 [H, W, 3], RGB.
        codec: FFmpeg's name.
        times: Of each frame.
        turn: How players are to turn it, in degrees counterclockwise.
    """
    base = Fraction(1, 12800)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = base
        if codec == "libx264":
            stream.options = {"g": "12", "bf": "2", "crf": "10"}
        if turn:
            stream.set_display_rotation(turn)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = round((times[i] if times else Fraction(i, 25)) / base)
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
