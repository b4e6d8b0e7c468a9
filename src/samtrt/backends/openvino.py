"""OpenVINO on the CPU, in float32 or, where the processor multiplies in it, in bfloat16."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions
from samtrt.backends.base import Arrays, HostBackend, stage_tensors
from samtrt.backends.parts import Part
from samtrt.choices import AnyStage, AttentionForm, BackendName, Precision, Stage
from samtrt.errors import BackendError, MissingExtraError
from samtrt.manifest import Manifest
from samtrt.types import TensorInfo

try:
    import openvino as ov
except ImportError:
    raise MissingExtraError("The openvino backend", "openvino", "openvino") from None

PRECISIONS = {BackendName.OPENVINO: "f32", BackendName.OPENVINO_BF16: "bf16"}
"""What each backend computes in. Left to itself OpenVINO takes bfloat16 wherever it can, and says
nothing; here it is a choice, and has a name of its own."""


class OpenVinoBackend(HostBackend):
    """One ONNX file as a compiled model. Runs follow one another: each uses all threads."""

    def __init__(
        self,
        name: BackendName,
        path: Path,
        manifest: Manifest,
        stage: AnyStage,
        options: BackendOptions,
        part: Part | None = None,
        prompts: int | None = None,
    ) -> None:
        """Open the graph at `path`, or a part of it; for so many prompts alone, if it is said."""
        if options.device not in (None, "cpu"):
            raise BackendError(f"the openvino backend runs on 'cpu', not on '{options.device}'")
        if manifest.attention == AttentionForm.PLUGIN.value:
            raise BackendError(
                f"{path.parent} was exported with --attention plugin, which OpenVINO cannot read; "
                "export it again with --attention tiled"
            )
        core = ov.Core()
        if name is BackendName.OPENVINO_BF16 and not has_bf16(core):
            raise BackendError(
                "this processor has no bfloat16 arithmetic (AVX-512 BF16 or AMX): "
                f"use --backend {BackendName.OPENVINO.value}"
            )
        config = {"INFERENCE_PRECISION_HINT": PRECISIONS[name], "PERFORMANCE_HINT": "LATENCY"}
        if stage is Stage.DECODER:
            # Its kernel for attention as a whole shares it out by images and heads, of which tokens
            # that attend to the image have one: the others' cores would wait.
            config["SNIPPETS_MODE"] = "DISABLE"
        if options.threads:
            config["INFERENCE_NUM_THREADS"] = str(options.threads)
        try:
            model = core.read_model(part.model if part else str(path))
            if prompts:
                model.reshape({port.any_name: _with_first(port, prompts) for port in model.inputs})
            compiled = core.compile_model(model, "CPU", config)
            if part:
                inputs = [_info(compiled.input(name), name) for name in part.inputs]
                outputs = [_info(compiled.output(name), name) for name in part.outputs]
            else:
                inputs, outputs = stage_tensors(manifest, stage)
            self._order = [compiled.output(info.name) for info in outputs]
            for info in inputs:
                compiled.input(info.name)
            self._request: Any = compiled.create_infer_request()
        except RuntimeError as error:
            raise BackendError(f"openvino cannot load {path}: {_last_line(error)}") from None
        self._lock = threading.Lock()
        self.name = name.value
        if name is BackendName.OPENVINO_BF16:
            self.precision = Precision.BF16.value
        self.device = "cpu"
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}

    def _compute(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        contiguous = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        with self._lock:
            if self._request is None:
                raise BackendError(f"the {self.name} backend is closed")
            try:
                self._request.infer(contiguous, share_inputs=True)
            except RuntimeError as error:
                raise BackendError(f"openvino failed: {_last_line(error)}") from None
            # Copies: the next run writes its results into the same memory.
            values = [self._request.get_tensor(port).data.copy() for port in self._order]
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        with self._lock:
            self._request = None
            self._order = []


def has_bf16(core: Any = None) -> bool:
    """Tell whether this machine's processor computes in bfloat16."""
    found = (core or ov.Core()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in found


def _with_first(port: Any, size: int) -> Any:
    """Return the shape of an input, its first dimension fixed."""
    return ov.PartialShape([ov.Dimension(size), *list(port.get_partial_shape())[1:]])


def _info(port: Any, name: str) -> TensorInfo:
    """Describe what a compiled model takes or gives; any dimension of it that varies may."""
    shape = (
        dimension.get_length() if dimension.is_static else f"{name} {axis}"
        for axis, dimension in enumerate(port.get_partial_shape())
    )
    return TensorInfo(name, np.dtype(np.float32), tuple(shape))


def _last_line(error: Exception) -> str:
    """The cause stands last, after the places in OpenVINO's sources that it went through."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
