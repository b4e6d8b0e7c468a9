"""Memories of objects: on the host as the official code stores them, or where a GPU made them.

A memory that an engine made on a GPU stays there in float32, as long as frames may attend to it:
neither it nor the queue that it goes into passes the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samtrt.cuda.memory import CudaArray, Memory
from samtrt.cuda.runtime import THREAD_STREAM
from samtrt.types import Tensor, to_host

Floats = npt.NDArray[np.float32]
Remembered = Tensor
"""[64, G, G] or [T, 64]: bfloat16 bits (uint16) or float32 on the host, or float32 on a GPU."""


def to_bfloat16(values: Floats) -> npt.NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even, as the official predictor stores memories."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    return rounded.astype(np.uint16)


def from_bfloat16(bits: npt.NDArray[np.uint16]) -> Floats:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def kept(memories: Tensor) -> list[Remembered]:
    """Return what to keep of what an engine made of N objects, [N, ...] float32."""
    if isinstance(memories, CudaArray):
        return [memories[i] for i in range(len(memories))]
    return [to_bfloat16(one) for one in to_host(memories)]


def on_host(memory: Remembered) -> npt.NDArray[np.uint16]:
    """Return a memory as it is kept on the host."""
    return memory if memory.dtype == np.uint16 else to_bfloat16(to_host(memory))  # type: ignore[return-value]


def to_floats(memory: Remembered) -> Floats:
    """Return a memory on the host in float32."""
    values = to_host(memory)
    return from_bfloat16(values) if values.dtype == np.uint16 else values


def queued(rows: Sequence[Sequence[Remembered]], places: int) -> Tensor:
    """Put memories into queues: float32 [N, K, ...], zeros where there is none.

    They are made on the GPU where any of the memories is.

    Args:
        rows: Of each of N objects; at least one has a memory.
        places: K.
    """
    every = [one for row in rows for one in row]
    shape = (len(rows), places, *every[0].shape)
    device = next((one for one in every if isinstance(one, CudaArray)), None)
    if device is not None:
        return _queued_on(device.memory, rows, shape)
    found = np.zeros(shape, np.float32)
    for i, row in enumerate(rows):
        for k, one in enumerate(row):
            found[i, k] = to_floats(one)
    return found


def _queued_on(
    memory: Memory, rows: Sequence[Sequence[Remembered]], shape: tuple[int, ...]
) -> Tensor:
    memory.cuda.use()
    queue = memory.zeros(shape, np.dtype(np.float32))
    size = queue.nbytes // (shape[0] * shape[1])
    uploaded = []  # in use until the end
    for i, row in enumerate(rows):
        for k, one in enumerate(row):
            if not isinstance(one, CudaArray):
                one = memory.upload(to_floats(one))
                uploaded.append(one)
            target = queue.pointer + (i * shape[1] + k) * size
            memory.cuda.copy(target, one.pointer, size, THREAD_STREAM)
    memory.synchronize()
    return queue
