"""TensorRT and TensorRT-RTX engines on one GPU, without PyTorch."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend, Tensors, stage_tensors
from samtrt.backends.tensorrt.context import Lane, Largest
from samtrt.backends.tensorrt.jit_cache import JitCache
from samtrt.backends.tensorrt.rows import is_each, padded, zeros_or_rows
from samtrt.choices import AnyStage, PixelWork, Stage, Target, VideoStage
from samtrt.cuda.kernels import check_kernels
from samtrt.cuda.memory import Memory, joined
from samtrt.cuda.runtime import Cuda
from samtrt.errors import BackendError, EngineError
from samtrt.files import cache_dir
from samtrt.manifest import Manifest
from samtrt.tensorrt.api import capture, explain_cuda_failure, load_api
from samtrt.tensorrt.engine_files import (
    engine_path,
    find_exact,
    read_engine,
    read_engine_record,
)
from samtrt.tensorrt.gpu import find_gpu
from samtrt.tensorrt.plugin.library import register_plugins
from samtrt.tensorrt.record import EngineRecord, Exact, build_command
from samtrt.types import Tensor, TensorInfo

_POINTS = {"point_coords", "point_labels"}
_OBJECTS = "objects"
_EACH = "has_mask_input"
"""An input of every decoder that has one row for each prompt."""

MOST_IN_TURN = 64
"""Prompts in one call where the engine for all sizes takes one at a time."""
MOST_PADDING = 4 / 3
"""An engine for a size alone runs where its number of prompts is at most so many times as large:
it takes up to half as long for them as the engine for all sizes."""


class TensorRtBackend(Backend):
    """One stage's engine; and those for one size alone, which then run where they are faster.

    Runs follow one another: an engine's one context takes one at a time. Its memory is allocated
    once, for the largest shapes of its profile. An output that stays on the GPU is copied there
    out of the engine's own, which a CUDA graph holds on to.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        stage: AnyStage,
        target: Target,
        options: BackendOptions,
    ) -> None:
        self.name = target.value
        if options.pixels is PixelWork.DEVICE:
            check_kernels()
        device = "cuda" if options.device is None else options.device
        index = gpu_index(device, self.name)
        self.device = f"cuda:{index}"
        self._directory, self._stage, self._target = directory, stage, target
        self._rebuild = build_command(directory, target)
        record = read_engine_record(directory, manifest, stage, target)
        self._api = api = load_api(target, runtime_only=True)
        self._gpu = find_gpu(index)
        self._path = engine_path(directory, stage, target)
        self.precision = record.precision.value
        inputs, outputs = stage_tensors(manifest, stage)
        profiles = record.profiles
        self.inputs = {
            info.name: replace(info, max_shape=profiles[info.name].max) for info in inputs
        }
        self.outputs = {info.name: info for info in outputs}
        self._least = {name: profiles[name].min for name in self.inputs}
        self._in_turn = stage is Stage.DECODER and profiles[_EACH].max[0] == 1
        if self._in_turn:
            self._take_in_turn()
        self._lock = threading.Lock()
        self._lanes: dict[Exact | None, Lane] = {}
        self._for_masks: Exact | None = None  # which engine is for prompts that are a mask alone
        self._runtimes: list[Any] = []
        record.check_runs_on(api.version_text, self._gpu, directory, lean=not api.has_builder)
        self._cuda = Cuda(index)
        self._cuda.use()
        self._memory = Memory(self._cuda, options.pixels is PixelWork.DEVICE)
        try:
            self._last = self._lanes[None] = self._open(record)
            for exact in find_exact(directory, stage, target):
                record = read_engine_record(directory, manifest, stage, target, exact)
                lean = not api.has_builder
                record.check_runs_on(api.version_text, self._gpu, directory, lean=lean)
                self._lanes[exact] = self._open(record)
                if stage is Stage.DECODER and not _POINTS & record.profiles.keys():
                    self._for_masks = exact
        except BaseException:
            self.close()
            raise
        if options.pixels is PixelWork.DEVICE:
            self.memory = self._memory

    def _take_in_turn(self) -> None:
        """Let several prompts in, where the engine for all sizes takes them one after the other."""
        for name, info in self.inputs.items():
            if is_each(info) and info.max_shape:
                most = (MOST_IN_TURN, *info.max_shape[1:])
                self.inputs[name] = replace(info, max_shape=most)

    def _open(self, record: EngineRecord) -> Lane:
        path = engine_path(self._directory, self._stage, self._target, record.exact)
        api, engine = self._api, self._deserialize(record, path)
        jit = None
        if api.keeps_compiled_kernels:
            name = f"{record.file.sha256[:16]}-{api.version_text}-{self._gpu.slug}.jit"
            jit = JitCache(api, engine, cache_dir() / self._target.value / name)
        taken = [info for name, info in self.inputs.items() if name in record.profiles]
        inputs, outputs = (self._largest(each, record) for each in (taken, self.outputs.values()))
        # The encoder of the next frame runs meanwhile, and leaves them no room where it may not.
        is_urgent = isinstance(self._stage, VideoStage)
        return Lane(api, self._memory, engine, inputs, outputs, jit, is_urgent)

    def _deserialize(self, record: EngineRecord, path: Path) -> Any:
        content = read_engine(self._directory, record)
        runtime = self._api.create_runtime()
        if record.plugin:
            library = path.with_name(record.plugin.name)
            register_plugins(self._api, library, record.plugin.sha256, self._gpu)
        if record.flags.version_compatible:
            runtime.engine_host_code_allowed = True
        with capture(self._api.logger) as messages:
            engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            text = " ".join(message.text.strip() for message in messages if message.is_error)
            reason = explain_cuda_failure(text) or text or "no reason was given"
            raise EngineError(
                f"{self._api.product} cannot load {path}: {reason}; build it again with: "
                f"{self._rebuild}"
            )
        self._runtimes.append(runtime)  # must outlive its engine
        expected = [*record.profiles, *self.outputs]
        found = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        if sorted(found) != sorted(expected):
            raise EngineError(
                f"{path} has the inputs and outputs {', '.join(found)} and not "
                f"{', '.join(expected)}; build it again with: {self._rebuild}"
            )
        return engine

    def _largest(self, tensors: Iterable[TensorInfo], record: EngineRecord) -> Largest:
        """Return each tensor's largest shape and dtype, by what the inputs may be."""
        sizes: dict[str, int] = {}
        for name, profile in record.profiles.items():
            for dim, limit in zip(self.inputs[name].shape, profile.max, strict=True):
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
            if not self._lanes:
                raise BackendError(f"the {self.name} backend is closed")
            self._cuda.use()
            if self._goes_in_turn(feeds):
                return self._run_each(feeds, on_host)
            return self._run_once(feeds, on_host)

    def _goes_in_turn(self, feeds: Tensors) -> bool:
        """Tell whether these are several prompts for an engine that takes one."""
        if self._stage is not Stage.DECODER:
            return False
        prompts, points = feeds["point_labels"].shape
        return prompts > 1 and (self._in_turn or (points == 0 and self._for_masks is not None))

    def _run_once(self, feeds: Tensors, on_host: bool) -> dict[str, Tensor]:
        self._last, feeds, count = self._choose(feeds)
        return dict(self._last.run(feeds, on_host, count))

    def _run_each(self, feeds: Tensors, on_host: bool) -> dict[str, Tensor]:
        """Run one prompt after the other."""
        done = []
        for i in range(len(feeds[_EACH])):
            one = {
                name: tensor[i : i + 1] if is_each(self.inputs[name]) else tensor
                for name, tensor in feeds.items()
            }
            done.append(self._run_once(one, on_host))
        return {name: joined([each[name] for each in done]) for name in self.outputs}

    def _choose(self, feeds: Tensors) -> tuple[Lane, Tensors, int | None]:
        """Return the fastest engine for these feeds, what it takes, and how many prompts count.

        One for a size alone also takes somewhat fewer prompts, made up to its number.
        """
        if isinstance(self._stage, VideoStage):
            return self._choose_for_objects(feeds)
        general = self._lanes[None], feeds, None
        if len(self._lanes) == 1:
            return general
        prompts, points = feeds["point_labels"].shape
        if points == 0 and self._for_masks:
            without = {name: tensor for name, tensor in feeds.items() if name not in _POINTS}
            return self._lanes[self._for_masks], without, None
        for exact in sorted(exact for exact in self._lanes if exact):
            if exact.points != points or not prompts <= exact.prompts <= prompts * MOST_PADDING:
                continue
            if exact.prompts == prompts:
                return self._lanes[exact], feeds, None
            each = {name: feeds[name] for name, info in self.inputs.items() if is_each(info)}
            if all(isinstance(tensor, np.ndarray) for tensor in each.values()):
                made = {name: padded(each[name], exact.prompts) for name in each}
                return self._lanes[exact], {**feeds, **made}, prompts
        return general

    def _choose_for_objects(self, feeds: Tensors) -> tuple[Lane, Tensors, int | None]:
        """Do as `_choose` for objects in a video: fewer than the least are made up to these."""
        shapes = {name: tuple(tensor.shape) for name, tensor in feeds.items()}
        for exact, lane in self._lanes.items():
            if exact and lane.largest_inputs == shapes:
                return lane, feeds, None
        each = [name for name, info in self.inputs.items() if info.shape[0] == _OBJECTS]
        count, least = shapes[each[0]][0], self._least[each[0]][0]
        if count >= least:
            return self._lanes[None], feeds, None
        rows = np.minimum(np.arange(least), count - 1)
        made = {name: zeros_or_rows(feeds[name], rows) for name in each}
        return self._lanes[None], {**feeds, **made}, count

    def _check(self, feeds: Tensors) -> None:
        told, flags = "", {}
        for name in (one for one in self.inputs if one in feeds):
            info, shape = self.inputs[name], np.shape(feeds[name])
            least, most = self._least[name], info.max_shape or ()
            if len(shape) != len(info.shape):
                continue  # told by the check of every backend
            for dim, size, low, high in zip(info.shape, shape, least, most, strict=True):
                if dim == "points" and size == 0 and self._for_masks:
                    continue
                if dim == _OBJECTS and 0 < size < low:
                    continue  # made up to as many
                if isinstance(dim, str) and not low <= size <= high:
                    told = told or (
                        f"{name} has {size} {dim} and the optimization profile of {self._path} "
                        f"takes {low} to {high}"
                    )
                    best = max(low, min(size, 5))
                    flags[dim] = f"--{dim} {min(low, size)}:{best}:{max(high, size)}"
        if told:
            words = " ".join(flags.values())
            raise BackendError(f"{told}; build another with: {self._rebuild} {words}")
        super()._check(feeds)

    @property
    def device_time_ms(self) -> float | None:
        """Milliseconds that the GPU spent in the last run's engine, without copies."""
        with self._lock:
            return self._last.elapsed_ms() if self._lanes else None

    def device_memory(self) -> tuple[int, int]:
        """Return free and total bytes of the GPU's memory."""
        with self._lock:
            self._cuda.use()
            return self._cuda.memory()

    def close(self) -> None:
        with self._lock:
            for lane in self._lanes.values():
                lane.close()
            self._lanes = {}
            self._memory.close()
            self._runtimes = []


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
