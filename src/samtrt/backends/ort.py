"""ONNX Runtime, on the CPU or, where its CUDA provider is installed, on an NVIDIA GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend, Tensors
from samtrt.backends.bound import BoundSession
from samtrt.backends.parts import Part
from samtrt.cuda.memory import Memory
from samtrt.cuda.runtime import Cuda
from samtrt.errors import BackendError, MissingExtraError
from samtrt.types import Tensor, TensorInfo, to_host

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtraError("The onnxruntime backend", "ort", "onnxruntime") from None

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class OnnxRuntimeBackend(Backend):
    """One ONNX file in an `InferenceSession`, which is safe to run from several threads.

    On a GPU its inputs may already be there, and its outputs may stay.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, options: BackendOptions, part: Part | None = None) -> None:
        """Open the graph at `path`, or a part of it."""
        device = "cpu" if options.device is None else options.device
        provider = _provider(device)
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        # A plan of the memory of each shape comes on top of what the first run took, and saves no
        # time: an encoder then takes half as much again.
        session_options.enable_mem_pattern = device != "cpu"
        # Threads wait for work busily, but no longer than a run: then others need the cores.
        session_options.add_session_config_entry("session.force_spinning_stop", "1")
        session_options.log_severity_level = (
            3  # errors only: warnings of fusions are not the user's
        )
        try:
            session = ort.InferenceSession(
                part.model if part else str(path),
                session_options,
                providers=[provider],
                # On CPUs its kernel takes longer than the Add and LayerNormalization it replaces.
                disabled_optimizers=["SkipLayerNormFusion"] if device == "cpu" else [],
            )
        except Exception as error:  # its exceptions share no base class
            raise BackendError(f"onnxruntime cannot load {path}: {_first_line(error)}") from None
        # A provider that fails to start is dropped with a mere warning: do not run on another.
        if session.get_providers()[0] != provider[0]:
            raise BackendError(
                f"onnxruntime could not start {provider[0]} and would run on "
                f"{session.get_providers()[0]} instead; check the CUDA and cuDNN libraries, "
                "or use --device cpu"
            )
        self._session: ort.InferenceSession | None = session
        self._memory: Memory | None = None
        self._bound: BoundSession | None = None
        self.device = device
        self.inputs = {arg.name: _info(arg) for arg in session.get_inputs()}
        self.outputs = {arg.name: _info(arg) for arg in session.get_outputs()}

        if "device_id" in provider[1]:
            index = int(provider[1]["device_id"])
            self.device = f"cuda:{index}"
            self._memory = Memory(Cuda(index, "ort-gpu"), has_kernels=False)
            self._bound = BoundSession(session, self._memory, ("cuda", index), self.outputs)

    def _run(self, feeds: Tensors, on_host: bool) -> dict[str, Tensor]:
        del on_host  # arrays on the GPU are brought back by `run`
        session, bound = self._session, self._bound
        if session is None:
            raise BackendError("the onnxruntime backend is closed")
        try:
            if bound is not None:
                return dict(bound.run(feeds, self.inputs))
            names = list(self.outputs)
            arrays = {name: to_host(tensor) for name, tensor in feeds.items()}
            return dict(zip(names, session.run(names, arrays), strict=True))
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"onnxruntime failed: {_first_line(error)}") from None

    def close(self) -> None:
        self._session = self._bound = None
        if self._memory is not None:
            self._memory.close()


def _provider(device: str) -> tuple[str, dict[str, str]]:
    match = re.fullmatch(r"(cpu)|cuda(?::(\d+))?", device)
    if not match:
        raise BackendError(f"unknown device '{device}' for onnxruntime: use cpu, cuda or cuda:N")
    if match[1]:
        return "CPUExecutionProvider", {}
    name = "CUDAExecutionProvider"
    if name not in ort.get_available_providers():
        raise BackendError(
            f"the installed onnxruntime {ort.__version__} has no {name}; "
            "install it with: pip uninstall onnxruntime && pip install 'samtrt[ort-gpu]'"
        )
    return name, {"device_id": match[2] or "0"}


def _info(arg: Any) -> TensorInfo:
    return TensorInfo(arg.name, np.dtype(_DTYPES[arg.type]), tuple(arg.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
