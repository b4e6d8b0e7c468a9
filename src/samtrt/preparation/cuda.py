"""From an image to the encoder's input, on a GPU: the values of `host.preprocess`.

The image's bytes are uploaded once, or are on the GPU already. Resizing is Pillow's own
(`Resample.c`), in its fixed point and with its rounding, so that it gives the same bytes; or, for
models that were trained on unrounded images, in its real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL

from samtrt.choices import ResizeFilter, ValueScale
from samtrt.cuda.kernels import load_kernels
from samtrt.cuda.memory import CudaArray, Memory, adopted
from samtrt.errors import ImageError
from samtrt.preparation.frame import Frame
from samtrt.preparation.host import check_shape, what_to_do
from samtrt.preparation.spec import Preparation
from samtrt.types import DeviceArray, UInt8Array

_PILLOW = int(PIL.__version__.partition(".")[0])
_SOURCE = Path(__file__).with_name("resize.cu")
_BITS = 22
_SCALES = {ValueScale.BYTE: 0, ValueScale.UNIT: 1, ValueScale.MINMAX: 2}

Floats = npt.NDArray[np.float64]


class Taps(NamedTuple):
    """What each pixel of a resized axis is made of.

    Attributes:
        first: int32 [n], the first pixel of the original.
        weights: [n, taps], of it and those that follow, in fixed point as int32 or as float64; 0
            where unused.
    """

    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32] | npt.NDArray[np.float64]


def adopt(image: Any, memory: Memory) -> CudaArray:
    """Return an image of another library, uint8 [H, W, 3] on the GPU of `memory`, without a copy.

    Raises:
        ImageError: where it is not such an array.
    """
    found = image if isinstance(image, CudaArray) else adopted(image, memory)
    if found is None:
        what = what_to_do(image)
        raise ImageError(f"an image must be an array of NumPy, or on a GPU, not {what}")
    own = f"cuda:{memory.cuda.index}"
    if found.device != own:
        raise ImageError(
            f"the image is on {found.device}, and the model on {own}: move one to the other"
        )
    check_shape(found.shape, found.dtype)
    return found


def preprocess(
    image: UInt8Array | DeviceArray,
    frame: Frame,
    preparation: Preparation,
    memory: Memory,
    reversed_channels: bool = False,
) -> CudaArray:
    """Resize, normalise and pad an image of a frame: uint8 [H, W, 3] to float32 [1, 3, S, S].

    Args:
        image: On the host, or on the GPU of `memory`.
        frame: Where it comes to lie.
        preparation: What its values become.
        memory: Where the result is made.
        reversed_channels: Whether channels are blue, green, red.
    """
    memory.cuda.use()
    kernels = load_kernels(_SOURCE, memory.cuda)
    (height, width), side = frame.resized, frame.image_size
    pixels = memory.upload(image) if isinstance(image, np.ndarray) else image
    out = memory.empty((1, 3, side, side), np.dtype(np.float32))
    normal = memory.upload(np.array((*preparation.mean, *preparation.std), np.float32))
    extremes = memory.zeros((2,), np.dtype(np.int32))
    kept = []  # in use until the end
    resized, pixel, line = pixels, 3, 3 * frame.original[1]
    rounded = preparation.rounded
    for axis in _order(frame):
        lengths = frame.original[axis], frame.resized[axis]
        taps = (resize_taps if rounded else real_taps)(*lengths, preparation.filter)
        tables = memory.upload(taps.first), memory.upload(taps.weights)
        shape = (resized.shape[0], width) if axis else (height, resized.shape[1])
        whole = (*tables, taps.weights.shape[1], frame.original[axis], axis, shape[1])
        grid = (shape[0], -(-shape[1] // 128))
        if rounded:
            after = memory.empty(shape, np.dtype(np.uint32))
            kernels.launch(
                "resize_axis", grid, 128, resized, pixel, np.int64(line), *whole, after
            )  # fmt: skip
        else:
            after = memory.empty((*shape, 3), np.dtype(np.float32))
            is_bytes = int(resized is pixels)
            kernels.launch(
                "resize_axis_real", grid, 128,
                resized, is_bytes, pixel, np.int64(line), *whole, after,
            )  # fmt: skip
        kept.append((resized, tables))
        pixel = 4 if rounded else 3  # bytes of a packed pixel, or real numbers
        resized, line = after, pixel * shape[1]
    scale, grid = _SCALES[preparation.scale], (-(-side // 128), side)
    sizes = height, width, side, int(reversed_channels), scale
    if rounded:
        if preparation.scale is ValueScale.MINMAX:
            kernels.launch("find_range", (132, 1), 256, resized, height * width, extremes)
        kernels.launch("normalize", grid, 128, resized, *sizes, extremes, normal, out)
    else:
        kernels.launch("normalize_real", grid, 128, resized, *sizes, normal, out)
    memory.synchronize()  # until then all of these arrays are in use
    return out


def _order(frame: Frame) -> tuple[int, int]:
    """Return the axes in the order that Pillow resizes them in: columns first, or rows.

    From its version 13 on, where the height loses more than twice what the width does, it goes
    first.
    """
    if _PILLOW < 13:
        return 1, 0
    height, width = (old - new for old, new in zip(frame.original, frame.resized, strict=True))
    return (0, 1) if height > 0 and height > 2 * width else (1, 0)


@lru_cache(maxsize=64)
def resize_taps(pixels: int, resized: int, kind: ResizeFilter) -> Taps:
    """Return `real_taps` in fixed point, as Pillow resizes bytes."""
    first, weights = real_taps(pixels, resized, kind)
    scaled = weights * (1 << _BITS)
    return Taps(first, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32))


@lru_cache(maxsize=64)
def real_taps(pixels: int, resized: int, kind: ResizeFilter) -> Taps:
    """Return Pillow's weights for resizing `pixels` to `resized`: `precompute_coeffs`."""
    if pixels == resized:
        return Taps(np.arange(pixels, dtype=np.int32), np.ones((pixels, 1)))
    scale = pixels / resized
    centre = (np.arange(resized) + 0.5) * scale
    if kind is ResizeFilter.NEAREST:
        # Pillow steps from pixel to pixel.
        first = np.cumsum(np.r_[scale * 0.5, np.full(resized - 1, scale)]).astype(np.int32)
        return Taps(first, np.ones((resized, 1)))
    width, function = _FILTERS[kind]
    stretch = max(scale, 1.0)
    support = width * stretch
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), pixels)
    taps = np.arange(math.ceil(support) * 2 + 1)
    at = (taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch)
    weights = np.where(taps < (last - first)[:, None], function(at), 0.0)
    # Pillow adds them up one after the other.
    total = np.cumsum(weights, axis=1)[:, -1:]
    weights = np.divide(weights, total, out=weights, where=total != 0)
    return Taps(first.astype(np.int32), weights)


def _bilinear(x: Floats) -> Floats:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _box(x: Floats) -> Floats:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _hamming(x: Floats) -> Floats:
    x = np.abs(x)
    angle = np.where(x == 0, 1.0, x) * np.pi
    value = np.sin(angle) / angle * (0.54 + 0.46 * np.cos(angle))
    return np.where(x == 0, 1.0, np.where(x >= 1, 0.0, value))


def _bicubic(x: Floats, a: float = -0.5) -> Floats:
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: Floats) -> Floats:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x: Floats) -> Floats:
    angle = np.where(x == 0, 1.0, x) * np.pi
    return np.where(x == 0, 1.0, np.sin(angle) / angle)


_FILTERS: dict[ResizeFilter, tuple[float, Callable[..., Any]]] = {
    ResizeFilter.BOX: (0.5, _box),
    ResizeFilter.BILINEAR: (1.0, _bilinear),
    ResizeFilter.HAMMING: (1.0, _hamming),
    ResizeFilter.BICUBIC: (2.0, _bicubic),
    ResizeFilter.LANCZOS: (3.0, _lanczos),
}
"""Each filter's support and what it weighs a distance with."""
