"""Values that pass between the layers: what a stage takes and gives, and what a user gets."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]

Size = tuple[int, int]
"""Height and width, in pixels."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a stage.

    `shape` holds a name for a dimension that may vary from call to call: inputs that share the
    name must agree on it. `max_shape`, when known, holds the most that each dimension may be.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str, ...]
    max_shape: tuple[int, ...] | None = None

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape fits."""
        limits = self.max_shape or shape
        return len(shape) == len(self.shape) and all(
            (isinstance(fixed, str) or size == fixed) and size <= limit
            for size, fixed, limit in zip(shape, self.shape, limits, strict=True)
        )

    def __str__(self) -> str:
        limits = self.max_shape or (None,) * len(self.shape)
        return " x ".join(
            str(size) if isinstance(size, int) or limit is None else f"{size} (1..{limit})"
            for size, limit in zip(self.shape, limits, strict=True)
        )


class DeviceArray(ABC):
    """An array that stays in a device's memory between the engines; freed with its last reference.

    Attributes:
        shape: As of a NumPy array.
        dtype: As of a NumPy array.
        device: Where it is, such as "cuda:0".
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: str

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    @abstractmethod
    def numpy(self) -> npt.NDArray[Any]:
        """Copy it to the host."""


Tensor = npt.NDArray[Any] | DeviceArray
"""An array, wherever it is."""


@dataclass(frozen=True)
class Embedding:
    """An encoded image: all that prompts need to know of it.

    Attributes:
        features: Image embedding, float [1, 256, S/16, S/16]; on a GPU where that encoded it.
        original_size: Size of the image as the user gave it.
        input_size: Size of the image after resizing its longest side to S, before padding.
    """

    features: Tensor
    original_size: Size
    input_size: Size

    def host_features(self) -> FloatArray:
        """Return the features as a NumPy array, copied from a GPU where they are on one."""
        return to_host(self.features)


class Prediction(NamedTuple):
    """Masks of one prompt (or of P prompts, with a leading axis P), as `SamPredictor` returns them.

    Attributes:
        masks: bool [C, H, W] at the image's original size, or float32 logits where asked for.
        iou_predictions: float32 [C], the model's own estimate of each mask's IoU.
        low_res_logits: float32 [C, S/4, S/4], usable as `mask_input` of a next call.
    """

    masks: npt.NDArray[np.bool_ | np.float32]
    iou_predictions: npt.NDArray[np.float32]
    low_res_logits: npt.NDArray[np.float32]


def to_host(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a NumPy array, copied where it is not one."""
    return tensor.numpy() if isinstance(tensor, DeviceArray) else tensor


_C = TypeVar("_C", bound="Closeable")


class Closeable(ABC):
    """Something that holds memory until `close`; a `with` block closes it."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held; safe to call twice."""

    def __enter__(self: _C) -> _C:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
