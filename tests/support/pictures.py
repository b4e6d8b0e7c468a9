"""Picture files of every kind, made in memory by the libraries that users make them with."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image


def pillow_file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encode by Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff_file(values: npt.NDArray[Any], **options: Any) -> bytes:
    """Encode by tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def opencv_file(values: npt.NDArray[Any], suffix: str, *options: int) -> bytes:
    """Encode by OpenCV; colours [H, W, 3] are RGB."""
    order = values[..., [2, 1, 0, 3][: values.shape[2]]] if values.ndim == 3 else values
    return cv2.imencode(suffix, order, options)[1].tobytes()


def ramp(height: int = 32, width: int = 256) -> npt.NDArray[np.uint8]:
    """Return grey from 0 on the left to 255 on the right, uint8 [H, W]."""
    return np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))


def colours(height: int = 32, width: int = 256) -> npt.NDArray[np.uint8]:
    """Return smooth colours that use the whole range, uint8 [H, W, 3]."""
    grey = ramp(height, width)
    down = np.linspace(0, 255, height).round().astype(np.uint8)
    return np.stack([grey, 255 - grey, np.broadcast_to(down[:, None], grey.shape)], axis=-1)
