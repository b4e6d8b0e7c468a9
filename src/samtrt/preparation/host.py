"""From an image to the encoder's input, and from image coordinates to the model's frame.

Everything follows the official `utils/transforms.py` (`ResizeLongestSide`) and `Sam.preprocess`:
the longest side is resized to S with Pillow's antialiased bilinear filter, the result normalised,
then padded with zeros at the right and bottom.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.errors import ImageError
from samtrt.registry import PIXEL_MEAN, PIXEL_STD
from samtrt.types import FloatArray, Size, UInt8Array


def resized_size(original: Size, image_size: int) -> Size:
    """Return (height, width) with the longest side at `image_size`, rounded as the official code.

    A side never becomes 0, as it would there for images more than 2S times longer than wide.
    """
    scale = image_size / max(original)
    height, width = (max(int(side * scale + 0.5), 1) for side in original)
    return height, width


def check_image(image: object) -> UInt8Array:
    """Return `image` if it is uint8 [H, W, 3] with H, W >= 1; else raise `ImageError`."""
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"an image must be a NumPy array, not {type(image).__name__}; "
            "use numpy.asarray(PIL_image.convert('RGB'))"
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"an image must have the shape H x W x 3, not {image.shape}; "
            "convert grey or transparent images to RGB first"
        )
    if image.dtype != np.uint8:
        raise ImageError(
            f"an image must be uint8 with values 0..255, not {image.dtype}; "
            "scale it and convert with .astype('uint8')"
        )
    if 0 in image.shape:
        raise ImageError(f"the image is empty: its shape is {image.shape}")
    return image


def preprocess(
    image: UInt8Array,
    image_size: int,
    mean: tuple[float, ...] = PIXEL_MEAN,
    std: tuple[float, ...] = PIXEL_STD,
) -> npt.NDArray[np.float32]:
    """Resize, normalise and pad an RGB image: uint8 [H, W, 3] to float32 [1, 3, S, S]."""
    original = (image.shape[0], image.shape[1])
    height, width = resized_size(original, image_size)
    pil = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    padded = np.zeros((1, 3, image_size, image_size), dtype=np.float32)
    # Channel by channel: interleaved values take ten times as long to compute with.
    for channel, band in enumerate(pil.split()):
        pixels = padded[0, channel, :height, :width]
        pixels[...] = np.asarray(band)
        pixels -= np.float32(mean[channel])
        pixels /= np.float32(std[channel])
    return padded


def to_model_frame(coords: FloatArray, original: Size, image_size: int) -> npt.NDArray[np.float64]:
    """Scale XY coordinates [..., 2] from original pixels to the resized image's pixels."""
    return np.multiply(coords, _scale(original, image_size))


def to_image_frame(coords: FloatArray, original: Size, image_size: int) -> npt.NDArray[np.float64]:
    """Undo `to_model_frame`."""
    return np.divide(coords, _scale(original, image_size))


def _scale(original: Size, image_size: int) -> npt.NDArray[np.float64]:
    height, width = resized_size(original, image_size)
    return np.array([width / original[1], height / original[0]])
