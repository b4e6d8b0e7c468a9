"""The encoder or the decoder as a model of Triton's Python backend, on any runtime of samtrt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions, open_backend
from samtrt.choices import BackendName, PixelWork, Stage
from samtrt.errors import SamtrtError
from samtrt.manifest import Manifest
from samtrt.triton import tensors
from samtrt.triton.settings import Settings

Arrays = dict[str, npt.NDArray[Any]]


def directory_of(args: dict[str, str]) -> Path:
    """Return the directory of the version that Triton loads."""
    return Path(args["model_repository"]) / args["model_version"]


class StageModel:
    """What Triton's Python backend calls. An instance is a process."""

    stage: Stage

    def initialize(self, args: dict[str, str]) -> None:
        """Load the stage; Triton tells in its log why it cannot."""
        import triton_python_backend_utils as backend

        directory = directory_of(args)
        try:
            settings, manifest = Settings.load(directory), Manifest.load(directory)
            device = settings.device
            if device.startswith("cuda"):
                device = f"cuda:{args['model_instance_device_id']}"
            options = BackendOptions(device, settings.threads, PixelWork.HOST)
            name = settings.backend or BackendName.ONNXRUNTIME
            self.backend = open_backend(name, directory, manifest, self.stage, options)
            self.most = settings.encoder_batch if self.stage is Stage.ENCODER else 1
        except SamtrtError as error:
            raise backend.TritonModelException(str(error)) from None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests: images that wait together are encoded together."""
        answers: list[Any] = []
        waiting: list[Arrays] = []
        for request in requests:
            feeds = tensors.read_inputs(request, self.backend.inputs)
            if waiting and _rows(waiting) + len(next(iter(feeds.values()))) > self.most:
                answers += self._answers(waiting)
                waiting = []
            waiting.append(feeds)
        return answers + self._answers(waiting)

    def _answers(self, waiting: Sequence[Arrays]) -> list[Any]:
        import triton_python_backend_utils as backend

        try:
            outputs = self.backend.run(_together(waiting))
        except SamtrtError as error:
            if len(waiting) > 1:  # only some of them may be why
                return [answer for one in waiting for answer in self._answers([one])]
            fault = backend.TritonError(str(error), backend.TritonError.INVALID_ARG)
            return [backend.InferenceResponse(error=fault)]
        if len(waiting) == 1:
            return [_response(outputs)]
        ends = np.cumsum([_rows([one]) for one in waiting])[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [
            _response({name: part[i] for name, part in parts.items()}) for i in range(len(waiting))
        ]

    def finalize(self) -> None:
        """Free the engine."""
        self.backend.close()


class EncoderModel(StageModel):
    """The image encoder."""

    stage = Stage.ENCODER


class DecoderModel(StageModel):
    """The decoder of prompts and masks."""

    stage = Stage.DECODER


def _rows(feeds: Sequence[Arrays]) -> int:
    return sum(len(next(iter(one.values()))) for one in feeds)


def _together(waiting: Sequence[Arrays]) -> Arrays:
    if len(waiting) == 1:
        return waiting[0]
    return {name: np.concatenate([one[name] for one in waiting]) for name in waiting[0]}


def _response(outputs: Arrays) -> Any:
    import triton_python_backend_utils as backend

    return backend.InferenceResponse(
        [tensors.write(name, array) for name, array in outputs.items()]
    )
