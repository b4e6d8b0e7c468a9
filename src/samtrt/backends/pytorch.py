"""PyTorch in float32: the reference that every other backend is compared with."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from samtrt.backends import BackendOptions
from samtrt.backends.base import Arrays, Backend, stage_tensors
from samtrt.choices import Stage
from samtrt.errors import BackendError, MissingExtraError
from samtrt.manifest import Manifest

try:
    import torch
except ImportError:
    raise MissingExtraError("The pytorch backend", "export", "torch") from None

from samtrt.checkpoints import load_checkpoint, load_sam
from samtrt.choices import AttentionForm
from samtrt.export.wrappers import DecoderGraph, EncoderGraph
from samtrt.models import Sam


class PyTorchBackend(Backend):
    """One stage of a `Sam` module."""

    name = "pytorch"

    def __init__(self, sam: Sam, manifest: Manifest, stage: Stage, device: str = "cpu") -> None:
        graph = EncoderGraph(sam) if stage is Stage.ENCODER else DecoderGraph(sam)
        try:
            self._graph: torch.nn.Module | None = graph.to(device).eval()
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"PyTorch cannot use the device '{device}': {error}") from None
        self.device = device
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
        sam = load_sam(checkpoint)
        sam.image_encoder.set_attention_form(AttentionForm.MASK)
        if stage is Stage.DECODER:
            del sam.image_encoder  # nearly all of the weights, and not this stage's
        return cls(sam, manifest, stage, options.device)

    def _run(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        if self._graph is None:
            raise BackendError("the pytorch backend is closed")
        tensors = [torch.from_numpy(feeds[name]).to(self.device) for name in self.inputs]
        try:
            with torch.inference_mode():
                results = self._graph(*tensors)
        except RuntimeError as error:
            raise BackendError(f"PyTorch failed: {error}") from None
        if isinstance(results, torch.Tensor):
            results = (results,)
        return {
            name: tensor.cpu().numpy() for name, tensor in zip(self.outputs, results, strict=True)
        }

    def close(self) -> None:
        self._graph = None
