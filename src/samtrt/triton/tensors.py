"""Arrays into and out of Triton's Python backend, as DLPack.

Its own way, `Tensor.as_numpy`, is compiled against one major version of NumPy: before Triton 25
against NumPy 1, whose arrays NumPy 2 reads wrongly. DLPack is the same for all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.types import TensorInfo

_USED = b"used_dltensor"
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.argtypes, _set_name.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int


def read(tensor: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Copy a tensor of the backend, which is the server's again once the request is answered.

    Args:
        tensor: On the host.
        dtype: Its type, which one without numbers does not tell.
    """
    shape = tuple(tensor.shape())
    if 0 in shape:  # there is no memory to share
        return np.zeros(shape, dtype=dtype)
    return np.array(np.from_dlpack(tensor))


def read_inputs(request: Any, infos: Mapping[str, TensorInfo]) -> dict[str, npt.NDArray[Any]]:
    """Copy what a request gives, of what it may give."""
    return {one.name(): read(one, infos[one.name()].dtype) for one in request.inputs()}


def write(name: str, array: npt.NDArray[Any]) -> Any:
    """Return a tensor of the backend that shares an array's memory."""
    import triton_python_backend_utils as backend

    # A writable array without gaps: DLPack gives no other away. In another shape and back, so that
    # axes of length 1, whose strides are anything, have those that the backend expects.
    array = np.require(array, requirements=("C", "W")).reshape(-1).reshape(array.shape)
    capsule = array.__dlpack__()
    made = backend.Tensor.from_dlpack(name, capsule)
    # The backend leaves another name on it than DLPack's, at which NumPy complains in the log.
    _set_name(capsule, _USED)
    return made
