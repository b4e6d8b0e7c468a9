"""A stage that another model of the same Triton runs: business logic scripting as a backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from samtrt.backends.base import Arrays, HostBackend, stage_tensors
from samtrt.choices import Stage
from samtrt.errors import BackendError
from samtrt.manifest import Manifest
from samtrt.triton import tensors
from samtrt.triton.settings import Settings


class TritonBackend(HostBackend):
    """Runs a stage as a request to the model of that stage; from any thread.

    Triton queues such requests with those of other instances, and batches them where the model may.
    """

    name = "triton"

    def __init__(self, manifest: Manifest, settings: Settings, stage: Stage, version: int) -> None:
        self._model, self._version = settings.name_of(stage), version
        self.device, self.precision = settings.device, settings.precision
        inputs, outputs = stage_tensors(manifest, stage)
        self.inputs = {one.name: one for one in inputs}
        self.outputs = {one.name: one for one in outputs}
        if stage is Stage.DECODER and settings.prompts_per_run:
            points = self.inputs["point_coords"]
            most = (settings.prompts_per_run, settings.most_points or settings.limits.max_points, 2)
            self.inputs["point_coords"] = replace(points, max_shape=most)

    def _compute(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        import triton_python_backend_utils as backend

        request = backend.InferenceRequest(
            model_name=self._model,
            model_version=self._version,
            requested_output_names=list(self.outputs),
            inputs=[tensors.write(name, array) for name, array in feeds.items()],
            preferred_memory=backend.PreferredMemory(backend.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise BackendError(f"{self._model} failed: {response.error().message()}")
        return {
            name: tensors.read(backend.get_output_tensor_by_name(response, name), info.dtype)
            for name, info in self.outputs.items()
        }

    def close(self) -> None:
        """Nothing is held: Triton owns the model."""
