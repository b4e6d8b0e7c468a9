"""Backends whose results lie in the memory of the stand-in for a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from samtrt.backends.base import Backend, Tensors
from samtrt.cuda.memory import Memory
from samtrt.cuda.runtime import Cuda
from samtrt.predictor import Predictor
from samtrt.types import Tensor, to_host
from support import emulated_kernels, fake_cuda_streams


class OnDevice(Backend):
    """A backend of the host's that leaves its outputs on a GPU."""

    def __init__(self, host: Backend, memory: Memory) -> None:
        self.host, self.memory = host, memory
        self.name, self.device, self.precision = host.name, "cuda:0", host.precision
        self.inputs, self.outputs = host.inputs, host.outputs

    def _run(self, feeds: Tensors, on_host: bool) -> Mapping[str, Tensor]:
        outputs = self.host.run({name: to_host(tensor) for name, tensor in feeds.items()})
        if on_host:
            return outputs
        assert self.memory is not None
        self.memory.cuda.use()
        made = {name: self.memory.upload(array) for name, array in outputs.items()}
        self.memory.synchronize()
        return made

    def close(self) -> None:
        self.host.close()


@contextmanager
def device_memory(patch: pytest.MonkeyPatch) -> Iterator[tuple[Memory, fake_cuda_streams.Cuda]]:
    """A GPU's memory, on the stand-in for CUDA and the emulator; nothing may have gone wrong."""
    fake = fake_cuda_streams.install(patch)
    emulated_kernels.install(patch, fake)
    memory = Memory(Cuda())
    yield memory, fake
    memory.close()
    assert fake.faults == []


@contextmanager
def on_device(patch: pytest.MonkeyPatch, host: Predictor) -> Iterator[Any]:
    """A predictor with another's engines, as if these ran on a GPU; and the stand-in for it."""
    with device_memory(patch) as (memory, fake):
        stages = OnDevice(host.encoder, memory), OnDevice(host.decoder, memory)
        yield Predictor(*stages, host.manifest), fake
