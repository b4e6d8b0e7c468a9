"""TensorRT and TensorRT-RTX engines on one GPU, without PyTorch."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend, Tensors, stage_tensors
from samtrt.backends.tensorrt.context import Lane
from samtrt.backends.tensorrt.jit_cache import JitCache
from samtrt.choices import Stage, Target
from samtrt.cuda.runtime import Cuda
from samtrt.errors import BackendError, EngineError
from samtrt.files import cache_dir
from samtrt.manifest import Manifest
from samtrt.tensorrt.api import capture, explain_cuda_failure, load_api
from samtrt.tensorrt.gpu import Gpu, find_gpu
from samtrt.tensorrt.plugin.library import register_plugins
from samtrt.tensorrt.record import EngineRecord, build_command, engine_path, load_engine_record
from samtrt.types import Tensor, TensorInfo


class TensorRtBackend(Backend):
    """One engine. Runs follow one another: an engine's one context takes one at a time.

    Its memory is allocated once, for the largest shapes of the engine's profile. An output that
    stays on the GPU is copied there out of the engine's own, which a CUDA graph holds on to.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        stage: Stage,
        target: Target,
        options: BackendOptions,
    ) -> None:
        self.name = target.value
        index = gpu_index(options.device, self.name)
        self.device = f"cuda:{index}"
        record = load_engine_record(directory, manifest, stage, target)
        api = load_api(target, runtime_only=True)
        gpu = find_gpu(index)
        record.check_runs_on(api.version_text, gpu, directory, lean=not api.has_builder)
        self._lock = threading.Lock()
        self._lane: Lane | None = None
        self._path = engine_path(directory, stage, target)
        self._rebuild = build_command(directory, target)
        self._cuda = Cuda(index)
        self.precision = record.precision.value
        self._cuda.use()
        self._api = api
        engine = self._deserialize(record, gpu)
        inputs, outputs = stage_tensors(manifest, stage)
        self._check_names(engine, [info.name for info in inputs + outputs])
        profiles = record.profiles
        self.inputs = {
            info.name: replace(info, max_shape=profiles[info.name].max) for info in inputs
        }
        self._least = {name: profiles[name].min for name in self.inputs}
        self.outputs = {info.name: info for info in outputs}
        jit = None
        if api.keeps_compiled_kernels:
            name = f"{record.file.sha256[:16]}-{api.version_text}-{gpu.slug}.jit"
            jit = JitCache(api, engine, cache_dir() / target.value / name)
        sizes = self._largest(inputs), self._largest(outputs)
        self._lane = Lane(api, self._cuda, engine, *sizes, jit)

    def _deserialize(self, record: EngineRecord, gpu: Gpu) -> Any:
        runtime = self._api.create_runtime()
        if record.plugin:
            library = self._path.with_name(record.plugin.name)
            register_plugins(self._api, library, record.plugin.sha256, gpu)
        if record.flags.version_compatible:
            runtime.engine_host_code_allowed = True
        with capture(self._api.logger) as messages:
            engine = runtime.deserialize_cuda_engine(self._path.read_bytes())
        if engine is None:
            text = " ".join(message.text.strip() for message in messages if message.is_error)
            reason = explain_cuda_failure(text) or text or "no reason was given"
            raise EngineError(
                f"{self._api.product} cannot load {self._path}: {reason}; build it again with: "
                f"{self._rebuild}"
            )
        self._runtime = runtime  # must outlive its engine
        return engine

    def _check_names(self, engine: Any, expected: list[str]) -> None:
        found = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        if sorted(found) != sorted(expected):
            raise EngineError(
                f"{self._path} has the inputs and outputs {', '.join(found)} and not "
                f"{', '.join(expected)}; build it again with: {self._rebuild}"
            )

    def _largest(self, tensors: list[TensorInfo]) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return each tensor's largest shape and dtype, by what the inputs may be."""
        sizes: dict[str, int] = {}
        for info in self.inputs.values():
            for dim, limit in zip(info.shape, info.max_shape or (), strict=True):
                if isinstance(dim, str):
                    sizes[dim] = limit
        return {
            info.name: (
                tuple(sizes[dim] if isinstance(dim, str) else dim for dim in info.shape),
                info.dtype,
            )
            for info in tensors
        }

    def _run(self, feeds: Tensors, on_host: bool) -> dict[str, Tensor]:
        with self._lock:
            lane = self._open_lane()
            lane.run(feeds)
            made = {name: lane.output(name) for name in self.outputs}
            return {name: each.numpy() if on_host else each.copy() for name, each in made.items()}

    def _open_lane(self) -> Lane:
        if self._lane is None:
            raise BackendError(f"the {self.name} backend is closed")
        self._cuda.use()
        return self._lane

    def _check(self, feeds: Tensors) -> None:
        for name in self.inputs.keys() & feeds.keys():
            info, shape = self.inputs[name], np.shape(feeds[name])
            least, most = self._least[name], info.max_shape or ()
            if len(shape) != len(info.shape):
                continue  # told by the check of every backend
            for dim, size, low, high in zip(info.shape, shape, least, most, strict=True):
                if isinstance(dim, str) and not low <= size <= high:
                    raise BackendError(
                        f"{name} has {size} {dim} and the optimization profile of {self._path} "
                        f"takes {low} to {high}; build another with: {self._rebuild} "
                        f"--{dim} {min(low, size)}:{max(low, min(size, 5))}:{max(high, size)}"
                    )
        super()._check(feeds)

    @property
    def device_time_ms(self) -> float | None:
        """Milliseconds that the GPU spent in the last run's engine, without copies."""
        with self._lock:
            return self._open_lane().elapsed_ms()

    def device_memory(self) -> tuple[int, int]:
        """Return free and total bytes of the GPU's memory."""
        with self._lock:
            self._open_lane()
            return self._cuda.memory()

    def close(self) -> None:
        with self._lock:
            if self._lane is None:
                return
            self._lane.close()
            self._lane = None
            self._runtime = None


def gpu_index(device: str, backend: str) -> int:
    """Return N of "cuda:N", 0 for "cuda".

    Raises:
        BackendError: for any other device.
    """
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not match:
        raise BackendError(
            f"the {backend} backend runs on a GPU, not on '{device}': use --device cuda or cuda:N"
        )
    return int(match[1] or 0)
