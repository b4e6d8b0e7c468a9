"""PyTorch in float32: the reference that every other backend is compared with."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend, Tensors, stage_tensors
from samtrt.choices import AnyStage, Precision, Stage, VideoStage
from samtrt.errors import BackendError, MissingExtraError
from samtrt.manifest import EncoderSizes, Manifest, Source, Video
from samtrt.preparation.spec import PreparationChanges
from samtrt.registry import HieraSpec, Sam2Spec, ViTSpec
from samtrt.types import DeviceArray, Tensor, to_host

try:
    import torch
except ImportError:
    raise MissingExtraError("The pytorch backend", "export", "torch") from None

from samtrt.checkpoints.hub import origin_of
from samtrt.checkpoints.load import Checkpoint, load_checkpoint, load_sam
from samtrt.choices import AttentionForm
from samtrt.models import Sam
from samtrt.models.graphs import graph_of
from samtrt.models.hq import MaskDecoderHq
from samtrt.models.memory import MEMORIES, MEMORY_CHANNELS, POINTERS
from samtrt.models.rotary import Tokens


class PyTorchBackend(Backend):
    """One stage of a `Sam` module."""

    name = "pytorch"
    precision = Precision.FP32.value  # the checkpoint's own, whatever the graphs were made to be

    def __init__(self, sam: Sam, manifest: Manifest, stage: AnyStage, device: str = "cpu") -> None:
        graph = graph_of(sam, stage)
        try:
            self._graph: torch.nn.Module | None = graph.to(device).eval()
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"PyTorch cannot use the device '{device}': {error}") from None
        self._loaded: _Loaded | None = None
        self.device = "cuda:0" if device == "cuda" else device
        inputs, outputs = stage_tensors(manifest, stage)
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}

    @classmethod
    def open(cls, manifest: Manifest, stage: AnyStage, options: BackendOptions) -> PyTorchBackend:
        """Load the checkpoint that the model directory was exported from."""
        if options.checkpoint is None:
            raise BackendError("the pytorch backend runs a checkpoint: name it with --checkpoint")
        device = "cpu" if options.device is None else options.device
        loaded = _load(options.checkpoint, device, manifest)
        if loaded.sha256 != manifest.checkpoint.sha256:
            raise BackendError(
                f"the model directory was exported from {manifest.checkpoint.name} (sha256 "
                f"{manifest.checkpoint.sha256[:12]}...), which {options.checkpoint} (sha256 "
                f"{loaded.sha256[:12]}...) is not"
            )
        if isinstance(stage, VideoStage) and manifest.video is None:
            raise BackendError(f"{manifest.model} follows no objects through videos")
        if stage is Stage.DECODER:
            return cls(_without_encoder(loaded.sam), manifest, stage, device)
        backend = cls(loaded.sam, manifest, stage, device)
        backend._loaded = loaded
        return backend

    def _run(self, feeds: Tensors, on_host: bool) -> dict[str, Tensor]:
        if self._graph is None:
            raise BackendError("the pytorch backend is closed")
        try:
            tensors = [self._tensor(feeds[name]) for name in self.inputs]
            with torch.inference_mode():
                results = self._graph(*tensors)
            if isinstance(results, torch.Tensor):
                results = (results,)
            stays = self.device.startswith("cuda") and not on_host
            if stays:
                torch.cuda.synchronize(self.device)
            arrays = [
                TorchArray(tensor.contiguous()) if stays else tensor.cpu().numpy()
                for tensor in results
            ]
        except RuntimeError as error:
            raise BackendError(f"PyTorch failed: {error}") from None
        return dict(zip(self.outputs, arrays, strict=True))

    def _tensor(self, array: Tensor) -> torch.Tensor:
        if isinstance(array, DeviceArray) and array.device == self.device:
            return torch.as_tensor(array, device=self.device)  # no copy
        # PyTorch takes no array that may not be written to, and none without gaps.
        writable = np.require(to_host(array), requirements=["C", "W"])
        return torch.from_numpy(writable).to(self.device)

    def close(self) -> None:
        self._graph = self._loaded = None


def video_of(checkpoint: Checkpoint) -> Video | None:
    """Return what a manifest says of a checkpoint that follows objects through videos."""
    weights = checkpoint.state_dict.get("memory.mask_downsample.weight")
    if weights is None:
        return None
    spec = checkpoint.spec
    assert isinstance(spec, Sam2Spec)
    return Video(
        memory_channels=MEMORY_CHANNELS,
        memory_tokens=Tokens.of(spec).count if spec.latents_2d else None,
        memories=MEMORIES,
        pointers=POINTERS,
        mask_weights=tuple(weights.flatten().tolist()),
        mask_bias=checkpoint.state_dict["memory.mask_downsample.bias"].item(),
    )


def manifest_of(checkpoint: Checkpoint) -> Manifest:
    """Return what a model directory of a checkpoint would say, without graphs."""
    spec, hub = checkpoint.spec, origin_of(checkpoint.path)
    return Manifest(
        model=spec.name,
        image_size=spec.image_size,
        maps=spec.maps,
        mask_choice=spec.mask_choice,
        generation=spec.generation,
        object_scores=spec.object_scores,
        family=spec.family,
        input_size=spec.encoder_size,
        encoder=EncoderSizes.of(spec) if isinstance(spec, ViTSpec | HieraSpec) else None,
        preparation=checkpoint.preparation,
        automatic=spec.thresholds,
        precision=Precision.FP32,
        opset=0,
        simplified=False,
        dynamic_batch=False,
        attention=AttentionForm.MASK.value,
        checkpoint=Source(
            name=hub.partition("@")[0] if hub else checkpoint.path.name,
            sha256=checkpoint.sha256,
            hub=hub,
            tensors=checkpoint.tensors,
        ),
        video=video_of(checkpoint),
        files={},
        versions={"torch": torch.__version__},
    )


def open_checkpoint(
    checkpoint: Checkpoint, manifest: Manifest, device: str
) -> dict[Stage, PyTorchBackend]:
    """Open both stages of a checkpoint that has been read."""
    sam = load_sam(checkpoint)
    sam.set_attention_form(AttentionForm.MASK)
    set_masks(sam, manifest)
    return {stage: PyTorchBackend(sam, manifest, stage, device) for stage in Stage}


def set_masks(sam: Sam, manifest: Manifest) -> None:
    """Let the decoder of a SAM-HQ give the masks that the manifest says."""
    if isinstance(sam.mask_decoder, MaskDecoderHq):
        sam.mask_decoder.hq_token_only = manifest.hq_token_only


class TorchArray(DeviceArray):
    """A contiguous tensor, complete, as an array."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.shape, self.pointer = tuple(tensor.shape), tensor.data_ptr()
        self.dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
        self.device = str(tensor.device)

    def numpy(self) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = self.tensor.cpu().numpy()
        return array

    def _view(self, row: int, shape: tuple[int, ...]) -> TorchArray:
        start = row * math.prod(self.shape[1:])
        return TorchArray(self.tensor.view(-1)[start : start + math.prod(shape)].view(shape))

    def _take(self, rows: npt.NDArray[np.intp]) -> TorchArray:
        taken = self.tensor[torch.from_numpy(rows).to(self.tensor.device)]
        if taken.is_cuda:
            torch.cuda.current_stream(taken.device).synchronize()
        return TorchArray(taken)

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, index = self.tensor.__dlpack_device__()
        return int(kind), index


class _Loaded:
    """A model and the hash of its checkpoint."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        # What the manifest says of images holds: the checkpoint need not say it again.
        prepared = PreparationChanges.to(manifest.preparation)
        checkpoint = load_checkpoint(
            path, tensors=manifest.checkpoint.tensors, preparation=prepared
        )
        self.sha256 = checkpoint.sha256
        self.sam = load_sam(checkpoint)
        self.sam.set_attention_form(AttentionForm.MASK)
        set_masks(self.sam, manifest)


_open: WeakValueDictionary[tuple[object, ...], _Loaded] = WeakValueDictionary()
"""Models whose encoder is in use, for the decoder of the same file on the same device: reading and
hashing a checkpoint takes seconds. It goes with the encoder."""


def _load(path: Path, device: str, manifest: Manifest) -> _Loaded:
    """Return the model of a checkpoint file, the one in use where the file is still the same."""
    try:
        status = path.stat()
    except OSError:
        return _Loaded(path, manifest)  # which says what is wrong
    file = path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns
    key = *file, manifest.checkpoint.tensors, manifest.hq_token_only, device
    loaded = _open.get(key)
    if loaded is None:
        loaded = _open[key] = _Loaded(path, manifest)
    return loaded


def _without_encoder(sam: Sam) -> Sam:
    """Return the same model but for its encoder, which has nearly all of the weights."""
    rest = copy.copy(sam)
    rest._modules = {name: part for name, part in sam._modules.items() if name != "image_encoder"}
    return rest
