"""From an image to the encoder's input, on the host.

With the official preparation everything follows the official `utils/transforms.py`
(`ResizeLongestSide`) and `Sam.preprocess`: the longest side is resized to S with Pillow's
antialiased bilinear filter, the result normalised, then padded with zeros at the right and bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.choices import ResizeFilter, ValueScale
from samtrt.errors import ImageError
from samtrt.preparation.frame import Frame
from samtrt.preparation.spec import Preparation
from samtrt.types import UInt8Array

FILTERS = {name: Image.Resampling[name.name] for name in ResizeFilter}


def check_image(image: object) -> UInt8Array:
    """Return `image` if it is uint8 [H, W, 3] with H, W >= 1; else raise `ImageError`."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image must be a NumPy array, not {what_to_do(image)}")
    check_shape(image.shape, image.dtype)
    return image


def check_shape(shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Refuse what is not uint8 [H, W, 3] with H, W >= 1, wherever it lies; raises `ImageError`."""
    if len(shape) == 3 and shape[2] != 3 and shape[0] == 3:
        raise ImageError(
            f"an image must have the shape H x W x 3, not {shape}, which has its channels "
            "first; use image.transpose(1, 2, 0), or tensor.permute(1, 2, 0).contiguous()"
        )
    if len(shape) != 3 or shape[2] != 3:
        raise ImageError(
            f"an image must have the shape H x W x 3, not {shape}; "
            "convert grey or transparent images to RGB first"
        )
    if np.dtype(dtype) != np.uint8:
        raise ImageError(
            f"an image must be uint8 with values 0..255, not {np.dtype(dtype)}; scale it to 0..255 "
            "(values of 0..1 times 255) and convert with .astype('uint8')"
        )
    if 0 in shape:
        raise ImageError(f"the image is empty: its shape is {shape}")


def what_to_do(image: object) -> str:
    """Name what is no array, and how it becomes one."""
    name = type(image).__name__
    if image is None:
        return "None, which cv2.imread returns for a file that it cannot read: check its path"
    if isinstance(image, str | Path):
        return "a path: use samtrt.read_image(path)"
    if hasattr(image, "detach"):
        return f"{name}: use tensor.cpu().numpy(), H x W x 3, or SamPredictor.set_torch_image"
    return f"{name}; use numpy.asarray(PIL_image.convert('RGB'))"


def preprocess(
    image: UInt8Array, frame: Frame, preparation: Preparation
) -> npt.NDArray[np.float32]:
    """Resize, normalise and pad an RGB image of a frame: uint8 [H, W, 3] to float32 [1, 3, S, S].

    A flat image has no range: with the scale `minmax` all its values become 0.
    """
    height, width = frame.resized
    size, kind = (width, height), FILTERS[preparation.filter]
    # Channel by channel: interleaved values take ten times as long to compute with.
    if preparation.rounded:
        bands = Image.fromarray(image).resize(size, kind).split()
    else:
        real = (image[..., channel].astype(np.float32) for channel in range(3))
        bands = tuple(Image.fromarray(band).resize(size, kind) for band in real)
    return normalise([np.asarray(band) for band in bands], frame, preparation)


def normalise(
    bands: Sequence[npt.NDArray[Any]], frame: Frame, preparation: Preparation
) -> npt.NDArray[np.float32]:
    """Normalise and pad an image of the frame's size: three bands [h, w] of values 0..255."""
    height, width = frame.resized
    low, span = 0.0, 1.0
    if preparation.scale is ValueScale.UNIT:
        span = 255.0
    elif preparation.scale is ValueScale.MINMAX:
        low = float(min(band.min() for band in bands))
        span = max(float(max(band.max() for band in bands)) - low, 1.0)
    padded = np.zeros((1, 3, frame.image_size, frame.image_size), dtype=np.float32)
    for channel, band in enumerate(bands):
        pixels = padded[0, channel, :height, :width]
        pixels[...] = band
        if preparation.scale is not ValueScale.BYTE:
            pixels -= np.float32(low)
            pixels /= np.float32(span)
        pixels -= np.float32(preparation.mean[channel])
        pixels /= np.float32(preparation.std[channel])
    return padded
