"""Triton's Python backend without Triton: models in this process, called as the backend does.

Tensors are DLPack capsules, as there; what one model asks of another runs its `execute`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samtrt.triton import stage
from samtrt.triton.automatic import AutomaticModel
from samtrt.triton.prompted import PromptedModel

NAME = "triton_python_backend_utils"
CLASSES = {
    "encoder": stage.EncoderModel,
    "decoder": stage.DecoderModel,
    "auto": AutomaticModel,
    "": PromptedModel,
}


class Error(Exception):
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE = range(5)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        super().__init__(message)
        self.code = code

    def message(self) -> str:
        return str(self)


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    @classmethod
    def from_dlpack(cls, name: str, capsule: Any) -> Tensor:
        # The capsule alone is taken, as by the backend, which reads no other object of NumPy's.
        held = SimpleNamespace(array=None)

        class Holder:
            def __dlpack__(self, **_: Any) -> Any:
                return capsule

            def __dlpack_device__(self) -> tuple[int, int]:
                return (1, 0)

        held.array = np.from_dlpack(Holder())
        steps = np.empty(held.array.shape, held.array.dtype).strides
        assert held.array.strides == steps or not held.array.size, "not contiguous"
        return cls(name, held.array)

    def name(self) -> str:
        return self._name

    def shape(self) -> list[int]:
        return list(self._array.shape)

    def __dlpack__(self, **_: Any) -> Any:
        assert self._array.size, "there is no memory to share"
        return self._array.copy().__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError("NumPy's own way is another for each NumPy")


class Response:
    def __init__(self, output_tensors: Sequence[Tensor] = (), error: Error | None = None) -> None:
        self.tensors, self._error = {one.name(): one for one in output_tensors}, error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> Error:
        assert self._error is not None
        return self._error

    def arrays(self) -> dict[str, np.ndarray]:
        if self._error is not None:
            raise self._error
        return {name: np.array(one._array) for name, one in self.tensors.items()}


class Request:
    """What a model is given."""

    def __init__(self, arrays: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> None:
        self._tensors = [Tensor(name, np.array(array)) for name, array in arrays.items()]
        self._outputs = list(outputs)

    def inputs(self) -> list[Tensor]:
        return self._tensors

    def requested_output_names(self) -> list[str]:
        return self._outputs


class Figure:
    """A family of metrics and its metric at once."""

    values: dict[str, float]

    def __init__(self, name: str, values: dict[str, float]) -> None:
        self.name, self.values = name, values

    def Metric(self, labels: dict[str, str]) -> Figure:  # noqa: N802
        assert labels["instance"]
        return self

    def increment(self, value: float) -> None:
        assert value >= 0
        self.values[self.name] = self.values.get(self.name, 0) + value

    def set(self, value: float) -> None:
        self.values[self.name] = value


class FakeTriton:
    """The models of a repository, one instance of each.

    Attributes:
        models: By name; started with the first request.
        batches: Of each model that another called: how many requests came at once.
        figures: The metrics.
        logged: Errors in the log.
    """

    def __init__(self, repository: Path, name: str = "sam", version: int = 1) -> None:
        self._repository, self._name, self._version = repository, name, version
        self.models: dict[str, Any] = {}
        self.figures: dict[str, float] = {}
        self.logged: list[str] = []
        self._lock = threading.Lock()

    def install(self, patch: pytest.MonkeyPatch) -> FakeTriton:
        module = ModuleType(NAME)
        module.Tensor = Tensor
        module.TritonError = Error
        module.TritonModelException = Error
        module.InferenceResponse = Response
        module.InferenceRequest = self._calling
        module.get_output_tensor_by_name = lambda response, name: response.tensors[name]
        module.PreferredMemory = lambda kind, _: {0: "host"}[kind]
        module.TRITONSERVER_MEMORY_CPU = 0
        module.Logger = SimpleNamespace(log_error=self.logged.append)

        def family(name: str, description: str, kind: str) -> Figure:
            assert description
            assert (kind == "counter") == name.endswith("_total")
            return Figure(name, self.figures)

        family.GAUGE, family.COUNTER = "gauge", "counter"
        module.MetricFamily = family
        patch.setitem(sys.modules, NAME, module)
        return self

    def model(self, name: str) -> Any:
        """Return a model's instance."""
        with self._lock:
            if name not in self.models:
                part = name.removeprefix(self._name).removeprefix("_")
                model = CLASSES[part]()
                model.initialize(
                    {
                        "model_repository": str(self._repository / name),
                        "model_version": str(self._version),
                        "model_name": name,
                        "model_instance_name": f"{name}_0_0",
                        "model_instance_device_id": "0",
                    }
                )
                self.models[name] = model
            return self.models[name]

    def ask(self, outputs: Sequence[str], model: str = "", **arrays: Any) -> dict[str, np.ndarray]:
        """Ask the model that clients ask, as the server would hand it on."""
        request = Request({name: np.asarray(one) for name, one in arrays.items()}, outputs)
        (response,) = self.model(model or self._name).execute([request])
        return response.arrays()

    def close(self) -> None:
        for model in self.models.values():
            model.finalize()

    def _calling(
        self,
        model_name: str,
        model_version: int,
        requested_output_names: list[str],
        inputs: list[Tensor],
        preferred_memory: object,
    ) -> Any:
        assert (model_version, preferred_memory) == (self._version, "host")
        model = self.model(model_name)
        request = Request({one.name(): one._array for one in inputs}, requested_output_names)
        return SimpleNamespace(exec=lambda: model.execute([request])[0])
