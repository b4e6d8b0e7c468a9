"""PyTorch in float32: the reference that every other backend is compared with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions
from samtrt.backends.base import Arrays, HostBackend, stage_tensors
from samtrt.choices import Precision, Stage
from samtrt.errors import BackendError, MissingExtraError
from samtrt.manifest import Manifest

try:
    import torch
except ImportError:
    raise MissingExtraError("The pytorch backend", "export", "torch") from None

from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import AttentionForm
from samtrt.models import Sam
from samtrt.models.graphs import DecoderGraph, EncoderGraph


class PyTorchBackend(HostBackend):
    """One stage of a `Sam` module."""

    name = "pytorch"
    precision = Precision.FP32.value  # the checkpoint's own, whatever the graphs were made to be

    def __init__(self, sam: Sam, manifest: Manifest, stage: Stage, device: str = "cpu") -> None:
        graph = EncoderGraph(sam) if stage is Stage.ENCODER else DecoderGraph(sam)
        try:
            self._graph: torch.nn.Module | None = graph.to(device).eval()
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"PyTorch cannot use the device '{device}': {error}") from None
        self._loaded: _Loaded | None = None
        self.device = device
        inputs, outputs = stage_tensors(manifest, stage)
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}

    @classmethod
    def open(cls, manifest: Manifest, stage: Stage, options: BackendOptions) -> PyTorchBackend:
        """Load the checkpoint that the model directory was exported from."""
        if options.checkpoint is None:
            raise BackendError("the pytorch backend runs a checkpoint: name it with --checkpoint")
        loaded = _load(options.checkpoint, options.device)
        if loaded.sha256 != manifest.checkpoint.sha256:
            raise BackendError(
                f"the model directory was exported from {manifest.checkpoint.name} (sha256 "
                f"{manifest.checkpoint.sha256[:12]}...), which {options.checkpoint} (sha256 "
                f"{loaded.sha256[:12]}...) is not"
            )
        if stage is Stage.DECODER:
            return cls(_without_encoder(loaded.sam), manifest, stage, options.device)
        backend = cls(loaded.sam, manifest, stage, options.device)
        backend._loaded = loaded
        return backend

    def _compute(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        if self._graph is None:
            raise BackendError("the pytorch backend is closed")
        tensors = [
            torch.from_numpy(np.require(feeds[name], requirements=["C", "W"])).to(self.device)
            for name in self.inputs
        ]
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
        self._graph = self._loaded = None


class _Loaded:
    """A model and the hash of its checkpoint."""

    def __init__(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        self.sha256 = checkpoint.sha256
        self.sam = load_sam(checkpoint)
        self.sam.image_encoder.set_attention_form(AttentionForm.MASK)


_open: WeakValueDictionary[tuple[object, ...], _Loaded] = WeakValueDictionary()
"""Models whose encoder is in use, for the decoder of the same file on the same device: reading and
hashing a checkpoint takes seconds. It goes with the encoder."""


def _load(path: Path, device: str) -> _Loaded:
    """Return the model of a checkpoint file, the one in use where the file is still the same."""
    try:
        status = path.stat()
    except OSError:
        return _Loaded(path)  # which says what is wrong
    key = path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns, device
    loaded = _open.get(key)
    if loaded is None:
        loaded = _open[key] = _Loaded(path)
    return loaded


def _without_encoder(sam: Sam) -> Sam:
    """Return the same model but for its encoder, which has nearly all of the weights."""
    rest = copy.copy(sam)
    rest._modules = {name: part for name, part in sam._modules.items() if name != "image_encoder"}
    return rest
