"""A stand-in for TensorRT's runtime on the stand-in for CUDA: races and leaks without a GPU.

It stands in for what running an engine takes, under the real names (a test compares them with the
real bindings): `Runtime`, `ICudaEngine`, `IExecutionContext`. An engine file is a JSON of a stage
and its profile; running it does what the `fake` backend does, in device memory and in stream
order. As the real one it answers False or None and logs the reason; what the real one leaves
undefined (a context in two threads or on two streams at once, addresses that do not fit) is noted
in the faults of the stand-in for CUDA.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, IntEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from samtrt.backends.base import stage_tensors
from samtrt.choices import EVERY_STAGE, Precision, Stage, Target, VideoStage
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt import api as trt_api
from samtrt.tensorrt.engine_files import engine_path, onnx_hashes, record_path
from samtrt.tensorrt.record import BuildFlags, EngineRecord, Exact, Profile
from support import fake_cuda_streams
from support.fake_cuda import Stream
from support.fake_cuda_streams import Cuda
from support.fake_video import fake_stage

DataType = Enum("DataType", ["FLOAT", "HALF", "INT32", "BOOL", "INT64"])
TensorIOMode = Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
SCRATCH = 1 << 20
"""Bytes that a context takes for itself."""


class ILogger:
    Severity = Severity

    def log(self, severity: Any, msg: str) -> None: ...


class Runtime:
    cuda: Cuda

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        try:
            plan = json.loads(bytes(serialized_engine))
        except ValueError:
            self.logger.log(Severity.ERROR, "Serialized engine is corrupt: magic tag mismatch")
            return None
        # The weights of the engine.
        pointer = self.cuda.cudaMalloc(SCRATCH)[1]
        if pointer is None:
            self.logger.log(Severity.ERROR, "Requested amount of GPU memory could not be allocated")
            return None
        engine = ICudaEngine(self, plan)
        weakref.finalize(engine, self.cuda.cudaFree, pointer)
        return engine


class ICudaEngine:
    def __init__(self, runtime: Runtime, plan: dict[str, Any]) -> None:
        self._runtime, self._plan = runtime, plan
        self._manifest, self._stage = (
            Manifest.model_validate(plan["manifest"]),
            next(one for one in EVERY_STAGE if one.value == plan["stage"]),
        )
        ins, outs = stage_tensors(self._manifest, self._stage)
        self._inputs = {info.name: info for info in ins if info.name in plan["profiles"]}
        self._all = {info.name: info for info in [*self._inputs.values(), *outs]}
        self.num_io_tensors = len(self._all)
        self.num_optimization_profiles = 1
        self.num_aux_streams = 0

    def get_tensor_name(self, index: int) -> str:
        return list(self._all)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        assert self._all[name].dtype == np.float32
        return DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(dim, str) else dim for dim in self._all[name].shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return [tuple(self._plan["profiles"][name][kind]) for kind in ("min", "opt", "max")]

    def create_execution_context(self, *_: Any) -> IExecutionContext | None:
        cuda = self._runtime.cuda
        pointer = cuda.cudaMalloc(SCRATCH)[1]
        if pointer is None:
            self._runtime.logger.log(Severity.ERROR, "IExecutionContext: out of memory")
            return None
        context = IExecutionContext(self)
        weakref.finalize(context, cuda.cudaFree, pointer)
        return context


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self._cuda, self._logger = engine._runtime.cuda, engine._runtime.logger
        self._shapes: dict[str, tuple[int, ...]] = {
            name: info.shape
            for name, info in engine._inputs.items()
            if not any(isinstance(dim, str) for dim in info.shape)
        }
        self._addresses: dict[str, int] = {}
        self._flushed: dict[str, tuple[int, ...]] = {}
        self._busy = threading.Lock()
        self._queued: dict[int, int] = {}  # by stream: how much of this context's work waits

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            self._cuda.faults.append("one context in two threads at once")
            yield
            return
        try:
            threading.Event().wait(0.0005)  # lets other threads come
            yield
        finally:
            self._busy.release()

    def set_input_shape(self, name: str, shape: Any) -> bool:
        with self._alone():
            low, _, high = self.engine.get_tensor_profile_shape(name, 0)
            sizes = tuple(shape)
            fits = len(sizes) == len(high) and all(
                a <= size <= b for a, size, b in zip(low, sizes, high, strict=True)
            )
            if not fits:
                self._error(f"Given {sizes} for {name} does not satisfy the profile {low}..{high}")
                return False
            self._shapes[name] = sizes
            return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.engine._inputs:
            return self._shapes.get(name, self.engine.get_tensor_shape(name))
        known = {
            dim: size
            for key, sizes in self._shapes.items()
            for dim, size in zip(self.engine._all[key].shape, sizes, strict=True)
            if isinstance(dim, str)
        }
        return tuple(
            known.get(dim, -1) if isinstance(dim, str) else dim
            for dim in self.engine._all[name].shape
        )

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine._inputs if name not in self._shapes]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        with self._alone():
            if int(memory) % 256:
                self._cuda.faults.append(f"{name} is not aligned to 256 bytes")
            self._addresses[name] = int(memory)
            return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        with self._alone(), self._cuda._lock:
            if failed := self._cuda._enter("execute_async_v3"):
                self._error(f"Cuda Runtime (execute): cudaError {int(failed)}")
                return False
            stream = self._cuda.stream(stream_handle)
            missing = [name for name in self.engine._all if name not in self._addresses]
            if stream is None or missing or self.infer_shapes():
                self._error(f"Neither address nor shape of {missing or self.infer_shapes()}")
                return False
            self._check_streams(stream)
            if stream.capture is not None and self._flushed != self._shapes:
                # Changed shapes are made known to the GPU in the next run, which no graph can hold.
                stream.broken = True
            else:
                self._flushed = dict(self._shapes)
            if stream.capture is None:
                self._queued[id(stream)] = self._queued.get(id(stream), 0) + 1
            self._cuda.enqueue(stream, "engine", self._work(stream))
            return True

    def _check_streams(self, stream: Stream) -> None:
        others = (count for key, count in self._queued.items() if key != id(stream))
        if any(others):
            self._cuda.faults.append("one context has work on two streams at once")

    def _work(self, stream: Stream) -> Callable[[], None]:
        """Return what a run does, with the shapes and addresses of now."""
        shapes = {name: self.get_tensor_shape(name) for name in self.engine._all}
        addresses, captured = dict(self._addresses), stream.capture is not None
        me = weakref.ref(self)  # a graph does not keep a context alive

        def tensor(name: str) -> np.ndarray | None:
            size = int(np.prod(shapes[name])) * 4
            data = self_cuda.view(addresses[name], size, stream.device)
            return None if data is None else data.view(np.float32).reshape(shapes[name])

        self_cuda = self._cuda

        def work() -> None:
            context = me()
            if context is None:
                self_cuda.faults.append("a graph or queued run outlived its context")
                return
            if not captured:
                context._queued[id(stream)] -= 1
            tensors = {name: tensor(name) for name in shapes}
            if any(value is None for value in tensors.values()):
                return
            engine = context.engine
            backend = fake_stage(engine._manifest, engine._stage)
            given = {name: tensors[name] for name in engine._inputs}
            if (
                engine._stage is Stage.DECODER and "point_labels" not in given
            ):  # made for masks alone
                count = len(given["mask_input"])
                given["point_coords"] = np.zeros((count, 0, 2), np.float32)
                given["point_labels"] = np.zeros((count, 0), np.float32)
            out = backend._compute(given)
            for name, value in out.items():
                tensors[name][...] = value

        return work

    def _error(self, text: str) -> None:
        self._logger.log(Severity.ERROR, text)


def install(
    patch: pytest.MonkeyPatch,
    name: str = "tensorrt",
    runtime: type[Runtime] = Runtime,
    **settings: int,
) -> Cuda:
    """Be version 10.0.0 of a module such as `tensorrt`, and CUDA as `cuda.bindings.runtime`."""
    cuda = fake_cuda_streams.install(patch, **settings)
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__version__ = "10.0.0"
    bound = type("Runtime", (runtime,), {"cuda": cuda})
    for value in (ILogger, ICudaEngine, IExecutionContext, DataType, TensorIOMode):
        setattr(module, value.__name__, value)
    module.Runtime = bound
    module.Builder = object  # only asked for: what has none is a lean runtime
    module.nptype = lambda kind: {DataType.FLOAT: np.float32}[kind]
    patch.setitem(sys.modules, name, module)
    trt_api.load_api.cache_clear()
    return cuda


def check_left_clean(cuda: Cuda) -> None:
    """At the end of a test: nothing was misused, and nothing is left in the GPU."""
    trt_api.load_api.cache_clear()
    gc.collect()
    assert cuda.faults == []
    assert not cuda.live()


def write_engines(
    directory: Path,
    prompts: int = 4,
    points: int = 6,
    least_points: int = 0,
    gpu: str = "Fake GPU",
    plan: bytes | None = None,
    library_version: str = "10.0.0",
    version_compatible: bool = False,
    target: Target = Target.TENSORRT,
    exact: Exact | None = None,
    exact_objects: Exact | None = None,
    least_objects: int = 1,
) -> None:
    """Give a model directory engines that this stand-in runs, or files of something else.

    With `exact`, one of the decoder for that size alone; of 0 points, one for masks alone. With
    `exact_objects`, those for videos of so many objects and memories; else these take from
    `least_objects` to 3.
    """
    manifest = Manifest.load(directory)
    if exact:
        prompts, points = exact
    most = {"prompts": prompts, "points": points, "batch": 1}
    least = {"prompts": 1, "points": least_points, "batch": 1}
    if exact and points:
        least = most
    stages = (
        [Stage.DECODER] if exact else [stage for stage in EVERY_STAGE if stage in manifest.files]
    )
    most |= {"objects": 3, "memories": 8, "pointers": 17}
    least |= {"objects": least_objects, "memories": 7, "pointers": 16}
    if exact_objects:
        stages, exact = [*VideoStage], exact_objects
        most["objects"], most["points"] = exact.prompts, 2
        most |= {"memories": exact.points, "pointers": 16}
        least = most
    for stage in stages:
        inputs, _ = stage_tensors(manifest, stage)
        profiles = {
            info.name: Profile(
                min=tuple(least.get(dim, dim) for dim in info.shape),
                opt=tuple(most.get(dim, dim) for dim in info.shape),
                max=tuple(most.get(dim, dim) for dim in info.shape),
            )
            for info in inputs
            if not (exact and points == 0 and info.name.startswith("point_"))
        }
        content = {
            "stage": stage.value,
            "manifest": manifest.model_dump(mode="json"),
            "profiles": {name: profile.model_dump() for name, profile in profiles.items()},
        }
        path = engine_path(directory, stage, target, exact)
        path.write_bytes(plan or json.dumps(content).encode())
        record = EngineRecord(
            stage=stage,
            target=target,
            library_version=library_version,
            gpu=gpu,
            compute_capabilities=("9.0",),
            precision=Precision.FP32,
            tf32=False,
            profiles=profiles,
            exact=exact,
            flags=BuildFlags(strongly_typed=True, version_compatible=version_compatible),
            onnx=onnx_hashes(manifest, stage),
            file=FileEntry.of(path),
            build_seconds=0.0,
            versions={"samtrt": "test"},
        )
        record_path(directory, stage, target, exact).write_text(record.to_json())
