"""PyTorch in float32: the reference that every other backend is compared with."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from samtrt.backends import BackendOptions
from samtrt.backends.base import Arrays, Backend, stage_tensors
from samtrt.errors import BackendError, MissingExtraError
from samtrt.manifest import Manifest
from samtrt.types import Stage

try:
    import torch
except ImportError:
    raise MissingExtraError("The pytorch backend", "export", "torch") from None

from samtrt.checkpoints import load_checkpoint, load_sam
from samtrt.models import Sam


class PyTorchBackend(Backend):
    """One stage of a `Sam` module."""

    name = "pytorch"

    def __init__(self, sam: Sam, manifest: Manifest, stage: Stage, device: str = "cpu") -> None:
        try:
            self._sam: Sam | None = sam.to(device).eval()
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"PyTorch cannot use the device '{device}': {error}") from None
        self.device = device
        self._stage = stage
        inputs, outputs = stage_tensors(manifest, stage)
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}

    @classmethod
    def open(cls, manifest: Manifest, stage: Stage, options: BackendOptions) -> PyTorchBackend:
        """Load the checkpoint that the model directory was exported from."""
        if options.checkpoint is None:
            raise BackendError("the pytorch backend runs a checkpoint: name it with --checkpoint")
        checkpoint = load_checkpoint(options.checkpoint)
        if checkpoint.sha256 != manifest.checkpoint.sha256:
            raise BackendError(
                f"the model directory was exported from {manifest.checkpoint.name} (sha256 "
                f"{manifest.checkpoint.sha256[:12]}...), which {options.checkpoint} (sha256 "
                f"{checkpoint.sha256[:12]}...) is not"
            )
        return cls(load_sam(checkpoint), manifest, stage, options.device)

    def _run(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        if self._sam is None:
            raise BackendError("the pytorch backend is closed")
        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in feeds.items()}
        with torch.inference_mode():
            results = (
                [self._sam.image_encoder(tensors["images"])]
                if self._stage is Stage.ENCODER
                else self._sam.decode(**tensors)
            )
        return {
            name: tensor.cpu().numpy() for name, tensor in zip(self.outputs, results, strict=True)
        }

    def close(self) -> None:
        self._sam = None
