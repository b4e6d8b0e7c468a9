"""Backends whose results lie in a GPU's memory: that of a stand-in, or of a real one."""

from __future__ import annotations

import shutil
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
def device_memory(
    patch: pytest.MonkeyPatch, place: str = "stand-in"
) -> Iterator[tuple[Memory, fake_cuda_streams.Cuda | None]]:
    """A GPU's memory and kernels; nothing may have gone wrong afterwards.

    Those of the GPU, or of the stand-in for CUDA, which comes with them, and the emulator.
    """
    fake = None
    if place == "stand-in":
        if not shutil.which("g++"):
            pytest.skip("needs g++ to compile the kernels")
        fake = fake_cuda_streams.install(patch)
        emulated_kernels.install(patch, fake)
    cuda = Cuda()
    cuda.use()
    memory = Memory(cuda)
    yield memory, fake
    memory.close()
    assert fake is None or fake.faults == []


@contextmanager
def on_device(
    patch: pytest.MonkeyPatch, host: Predictor, place: str = "stand-in"
) -> Iterator[tuple[Predictor, Any]]:
    """A predictor with another's engines, as if these ran on a GPU; and the stand-in for it."""
    with device_memory(patch, place) as (memory, fake):
        stages = OnDevice(host.encoder, memory), OnDevice(host.decoder, memory)
        yield Predictor(*stages, host.manifest), fake
