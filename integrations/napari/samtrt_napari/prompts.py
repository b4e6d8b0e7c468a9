"""From what lies in napari's layers to what a `Segmenter` takes; without napari."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.errors import ImageError

BACKGROUND = "background"
OBJECT = "object"

Place = tuple[int, ...]
"""Which plane of a stack: indices of all axes but the last two; () for a picture."""


class Prompt(NamedTuple):
    """What is asked about one object, in pixels (x, y) of the picture."""

    points: list[tuple[float, float]]
    labels: list[int]
    box: tuple[float, float, float, float] | None

    def __bool__(self) -> bool:
        return bool(self.points) or self.box is not None


def plane_of(data: npt.ArrayLike, rgb: bool, place: Place) -> npt.NDArray[np.generic]:
    """Return the plane of an image layer's data at `place`: [H, W], or [H, W, 3 or 4] of colours.

    Raises:
        ImageError: where the data has no such plane.
    """
    array = np.asarray(data[place] if place else data)  # type: ignore[index]
    if array.ndim != 2 + rgb:
        raise ImageError(f"the image layer's planes have {array.ndim} axes; 2 can be segmented")
    return array


def png_of(plane: npt.NDArray[np.generic], limits: tuple[float, float]) -> bytes:
    """Return a plane as a PNG of 8 bits, as the layer shows it but for gamma and colour map.

    Args:
        plane: As of `plane_of`. Colours are bytes, or 0..1.
        limits: The values that the layer shows as black and white; of grey planes alone.
    """
    if plane.ndim == 3:
        colours = plane[..., :3]
        if colours.dtype != np.uint8:
            colours = np.clip(np.nan_to_num(colours.astype(np.float64)), 0, 1) * 255 + 0.5
        shown = colours
    else:
        low, high = limits
        values = np.nan_to_num(plane.astype(np.float64), nan=low)
        shown = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255 + 0.5
    file = io.BytesIO()
    Image.fromarray(shown.astype(np.uint8)).convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()


def prompt_of(
    points: npt.ArrayLike,
    kinds: Sequence[object],
    boxes: Sequence[npt.ArrayLike],
    place: Place,
    size: tuple[int, int],
) -> Prompt:
    """Gather what lies in one plane.

    Args:
        points: [N, D], as of a layer of points: (..., row, column), pixels' centres at whole
            numbers.
        kinds: N of `OBJECT` and `BACKGROUND`.
        boxes: Vertices [V, D] of shapes. The last counts, and of it the upright box around it.
        place: The plane.
        size: Its height and width.
    """
    height, width = size
    coords = np.asarray(points, dtype=np.float64).reshape(-1, 2 + len(place))
    chosen: list[tuple[float, float]] = []
    labels = []
    for at, kind in zip(coords, kinds, strict=True):
        y, x = at[-2:]
        if _is_in(at, place) and -0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5:
            chosen.append((float(np.clip(x, 0, width - 1)), float(np.clip(y, 0, height - 1))))
            labels.append(int(kind != BACKGROUND))
    box = None
    for shape in boxes:
        vertices = np.asarray(shape, dtype=np.float64)
        if not _is_in(vertices[0], place):
            continue
        (y1, x1), (y2, x2) = vertices[:, -2:].min(axis=0), vertices[:, -2:].max(axis=0)
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width - 1), min(y2, height - 1)
        if x2 - x1 >= 1 and y2 - y1 >= 1:  # not one that is only begun, or lies outside
            box = (float(x1), float(y1), float(x2), float(y2))
    return Prompt(chosen, labels, box)


def _is_in(at: npt.NDArray[np.float64], place: Place) -> bool:
    return tuple(np.round(at[:-2]).astype(int).tolist()) == place
