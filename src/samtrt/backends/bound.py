"""ONNX Runtime on a GPU's memory: inputs that are already there, outputs that stay."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from samtrt.backends.base import Tensors, is_zero
from samtrt.cuda.memory import CudaArray, Memory
from samtrt.cuda.runtime import THREAD_STREAM
from samtrt.types import DeviceArray, TensorInfo, to_host


class BoundSession:
    """A session with its inputs and outputs bound to memory of ours, for several threads.

    Args:
        session: An `onnxruntime.InferenceSession`.
        memory: Of the GPU that it runs on.
        place: That GPU, as ONNX Runtime names it: ("cuda", 0).
        outputs: What it returns, whose dimensions are numbers or names of the inputs'.
    """

    def __init__(
        self,
        session: Any,
        memory: Memory,
        place: tuple[str, int],
        outputs: Mapping[str, TensorInfo],
    ) -> None:
        self._session, self._memory, self._place, self._outputs = session, memory, place, outputs
        self._device = f"cuda:{memory.cuda.index}"
        self._zeros: dict[str, CudaArray] = {}
        self._lock = threading.Lock()

    def run(self, feeds: Tensors, inputs: Mapping[str, TensorInfo]) -> dict[str, CudaArray]:
        """Run checked feeds; the outputs are complete."""
        self._memory.cuda.use()
        binding = self._session.io_binding()
        sizes: dict[str, int] = {}
        bound: list[Any] = []  # alive until the run is over
        for name, info in inputs.items():
            tensor = feeds[name]
            sizes |= {
                dim: size
                for dim, size in zip(info.shape, tensor.shape, strict=True)
                if isinstance(dim, str)
            }
            if is_zero(tensor):  # such as the masks of prompts without one
                tensor = self._zero(name, tensor.shape, tensor.dtype)
            if isinstance(tensor, DeviceArray) and tensor.device == self._device:
                if tensor.stream is not None:
                    self._memory.cuda.synchronize(tensor.stream)
                binding.bind_input(
                    name, *self._place, tensor.dtype, list(tensor.shape), tensor.pointer
                )
            else:
                tensor = np.ascontiguousarray(to_host(tensor))
                binding.bind_cpu_input(name, tensor)
            bound.append(tensor)
        made = {
            name: self._bind_output(binding, info, sizes) for name, info in self._outputs.items()
        }
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return made

    def _bind_output(self, binding: Any, info: TensorInfo, sizes: dict[str, int]) -> CudaArray:
        shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in info.shape)
        array = self._memory.empty(shape, info.dtype)
        binding.bind_output(info.name, *self._place, info.dtype, list(shape), array.pointer)
        return array

    def _zero(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        """Return zeros of this shape, the first of as many as were ever asked for at once."""
        with self._lock:
            kept = self._zeros.get(name)
            if kept is None or kept.shape[0] < shape[0] or kept.shape[1:] != shape[1:]:
                kept = self._memory.empty(shape, dtype)
                self._memory.cuda.clear(kept.pointer, kept.nbytes, THREAD_STREAM)
                self._memory.cuda.synchronize(THREAD_STREAM)
                self._zeros[name] = kept
            return kept[: shape[0]]
