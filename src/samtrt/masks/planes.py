"""Planes of low-res logits, where they are: cut to limits, and their cells counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from samtrt.cuda.kernels import Kernels, load_kernels
from samtrt.cuda.memory import CudaArray
from samtrt.types import Tensor, to_host

_SOURCE = Path(__file__).with_name("planes.cu")
_BLOCKS = 8
"""Thread blocks that work on one plane."""

Numbers = npt.NDArray[np.integer]


def limited(logits: Tensor, planes: Numbers, limit: float) -> Tensor:
    """Return planes [K] of logits [N, M, M] cut to -limit .. limit: float32 [K, M, M]."""
    if not isinstance(logits, CudaArray):
        cut: npt.NDArray[np.float32] = np.clip(to_host(logits[planes]), -limit, limit)
        return cut
    kernels, chosen, cells = _begin(logits, planes)
    out = logits.memory.empty((len(planes), *logits.shape[1:]), logits.dtype)
    kernels.launch(
        "limit_planes", (_BLOCKS, len(planes)), 256, logits, chosen, cells, float(limit), out
    )
    logits.memory.synchronize()  # others read it, in their streams
    return out


def count_above(
    logits: Tensor, planes: Numbers, limits: tuple[float, float]
) -> npt.NDArray[np.integer]:
    """Count the cells above each of two limits of planes [K] of logits [N, M, M]: [2, K].

    Where the GPU has no kernels the planes come to the host.
    """
    if not isinstance(logits, CudaArray) or not logits.memory.has_kernels:
        flat = to_host(logits[planes]).reshape(len(planes), -1)
        return np.stack([np.count_nonzero(flat > np.float32(one), axis=1) for one in limits])
    kernels, chosen, cells = _begin(logits, planes)
    counts = logits.memory.zeros((len(planes), 2), np.dtype(np.int32))
    kernels.launch(
        *("count_cells", (_BLOCKS, len(planes)), 256),
        *(logits, chosen, cells, *map(float, limits), counts),
    )
    return counts.numpy().T


def _begin(logits: CudaArray, planes: Numbers) -> tuple[Kernels, CudaArray, int]:
    """Return the kernels, the planes' numbers on the GPU, and the cells of a plane."""
    memory = logits.memory
    memory.cuda.use()
    chosen = memory.upload(np.asarray(planes, np.int32))
    return load_kernels(_SOURCE, memory.cuda), chosen, logits.shape[1] * logits.shape[2]
