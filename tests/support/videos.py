"""Videos for tests, frame by frame."""

from __future__ import annotations

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
