"""Rows of a decoder's inputs, one for each prompt or object, made up to what an engine takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import is_zero
from samtrt.types import Tensor, TensorInfo


def is_each(info: TensorInfo) -> bool:
    """Tell whether an input has a row for each prompt."""
    return info.shape[0] == "prompts"


def padded(array: Tensor, count: int) -> npt.NDArray[Any]:
    """Make up `count` rows, with copies of the last one."""
    assert isinstance(array, np.ndarray)
    if not any(array.strides):  # one value for all of them
        return np.broadcast_to(array.flat[0], (count, *array.shape[1:]))
    return np.concatenate([array, np.repeat(array[-1:], count - len(array), axis=0)])


def zeros_or_rows(array: Tensor, rows: npt.NDArray[np.intp]) -> Tensor:
    """Return these rows, where the array is; without a copy where it is one zero for all."""
    if is_zero(array):
        return np.broadcast_to(array.flat[0], (len(rows), *array.shape[1:]))  # type: ignore[union-attr]
    return array[rows]
