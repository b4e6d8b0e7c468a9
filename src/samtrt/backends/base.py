"""The one interface that the predictor knows: named arrays in, named arrays out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from samtrt.choices import AnyStage, Stage, VideoStage
from samtrt.cuda.memory import Memory
from samtrt.errors import BackendError
from samtrt.manifest import Manifest
from samtrt.types import Closeable, DeviceArray, Tensor, TensorInfo, to_host

OBJECT_SCORES = "object_score_logits"
"""Name of the decoder's output that is above 0 where there is an object, of models that tell."""

_SAID_OF_OBJECTS = {
    *("point_coords", "point_labels", "mask_input", "has_mask_input", "bare", "absent"),
    *("memory_times", "has_memory", "pointer_distances", "has_pointer"),
    *(OBJECT_SCORES, "binarize"),
}
"""Inputs of a video's graphs that hold nothing of an image, and nothing made of one."""

Arrays = Mapping[str, npt.NDArray[Any]]
Tensors = Mapping[str, Tensor]


def image_inputs(stage: AnyStage, manifest: Manifest) -> frozenset[str]:
    """Name the inputs of a stage that hold the image; the others hold prompts."""
    if stage is Stage.ENCODER:
        return frozenset({"images"})
    if isinstance(stage, VideoStage):
        inputs, _ = stage_tensors(manifest, stage)
        return frozenset(info.name for info in inputs if info.name not in _SAID_OF_OBJECTS)
    return frozenset(one.name for one in manifest.maps)


class Backend(Closeable):
    """One loaded stage. `run` may be called from several threads.

    Attributes:
        name: The backend's name, as `--backend` takes it.
        device: Where it runs, such as "cpu" or "cuda:0".
        inputs: What `run` takes, by name.
        outputs: What `run` returns, by name.
        memory: Of the GPU, where images are to be prepared and masks to be formed beside the
            engine; None where that is the host's work.
        precision: What it computes in, where that is not the manifest's precision.
    """

    name: str
    device: str
    memory: Memory | None = None
    precision: str | None = None
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]

    @overload
    def run(self, feeds: Tensors) -> dict[str, npt.NDArray[Any]]: ...

    @overload
    def run(self, feeds: Tensors, on_host: Literal[True]) -> dict[str, npt.NDArray[Any]]: ...

    @overload
    def run(self, feeds: Tensors, on_host: bool) -> dict[str, Tensor]: ...

    def run(self, feeds: Tensors, on_host: bool = True) -> Any:
        """Run once.

        Args:
            feeds: One array for every input, of its dtype and of a shape that it accepts; wherever
                it is: on the host, or where a run left it.
            on_host: Return NumPy arrays. Otherwise every output stays where it was made: on a GPU
                as a `DeviceArray`, of which `rows.numpy()` brings back what is wanted.

        Returns:
            One array for every output, which is the caller's.

        Raises:
            BackendError: for a missing, unknown or unfitting input, after `close`, and where the
                runtime fails.
        """
        self._check(feeds)
        outputs = self._run(feeds, on_host)
        return {name: to_host(array) for name, array in outputs.items()} if on_host else outputs

    @abstractmethod
    def _run(self, feeds: Tensors, on_host: bool) -> Mapping[str, Tensor]:
        """Run checked feeds. Outputs may stay on the device although `on_host` is asked for."""

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds; safe to call twice. `run` then raises `BackendError`."""

    def _check(self, feeds: Tensors) -> None:
        if feeds.keys() != self.inputs.keys():
            raise BackendError(
                f"{self.name} takes the inputs {', '.join(self.inputs)}; got {', '.join(feeds)}"
            )
        sizes: dict[str, tuple[int, str]] = {}
        for name, info in self.inputs.items():
            array = feeds[name]
            known = isinstance(array, np.ndarray | DeviceArray)
            if not known or array.dtype != info.dtype:
                got = getattr(array, "dtype", type(array).__name__)
                raise BackendError(f"input {name} must be an array of {info.dtype}, not {got}")
            if not info.accepts(array.shape):
                raise BackendError(f"input {name} must have the shape {info}, not {array.shape}")
            for dim, size in zip(info.shape, array.shape, strict=True):
                if isinstance(dim, str) and sizes.setdefault(dim, (size, name))[0] != size:
                    other, first = sizes[dim]
                    raise BackendError(f"{first} has {other} {dim} and {name} has {size}")


class HostBackend(Backend):
    """A backend that computes in the host's memory."""

    def _run(self, feeds: Tensors, on_host: bool) -> Mapping[str, Tensor]:
        del on_host  # that is where they are made
        return self._compute({name: to_host(tensor) for name, tensor in feeds.items()})

    @abstractmethod
    def _compute(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run checked feeds."""


def stage_tensors(manifest: Manifest, stage: AnyStage) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Return the inputs and outputs that a stage has by design (what the ONNX graphs declare)."""
    f32 = np.dtype(np.float32)
    size, mask = manifest.input_size, manifest.mask_size
    batch = "batch" if manifest.dynamic_batch else 1
    if stage is Stage.ENCODER:
        return (
            [TensorInfo("images", f32, (batch, 3, size, size))],
            [TensorInfo.of_map(one, batch) for one in manifest.maps],
        )
    if isinstance(stage, VideoStage):
        return _video_tensors(manifest, stage)
    embedding, *further = (TensorInfo.of_map(one) for one in manifest.maps)
    score = TensorInfo(OBJECT_SCORES, f32, ("prompts",))
    return (
        [
            embedding,
            TensorInfo("point_coords", f32, ("prompts", "points", 2)),
            TensorInfo("point_labels", f32, ("prompts", "points")),
            TensorInfo("mask_input", f32, ("prompts", 1, mask, mask)),
            TensorInfo("has_mask_input", f32, ("prompts",)),
            *further,
        ],
        [
            TensorInfo("low_res_masks", f32, ("prompts", 4, mask, mask)),
            TensorInfo("iou_predictions", f32, ("prompts", 4)),
            *([score] if manifest.object_scores else []),
        ],
    )


def _video_tensors(
    manifest: Manifest, stage: VideoStage
) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Do as `stage_tensors`, for a batch of objects on one frame of a video."""
    assert manifest.video is not None
    channels, grid, mask = manifest.embed_channels, manifest.embedding_size, manifest.mask_size
    memory = manifest.video.memory_shape(grid)

    def floats(name: str, *shape: int | str) -> TensorInfo:
        return TensorInfo(name, np.dtype(np.float32), shape)

    embedding, *further = (TensorInfo.of_map(one) for one in manifest.maps)
    objects = floats("object_embeddings", "objects", channels, grid, grid)
    score = floats(OBJECT_SCORES, "objects")
    match stage:
        case VideoStage.MEMORY_ATTENTION:
            return (
                [
                    embedding,
                    floats("memories", "objects", "memories", *memory),
                    floats("memory_times", "objects", "memories"),
                    floats("has_memory", "objects", "memories"),
                    floats("pointers", "objects", "pointers", channels),
                    floats("pointer_distances", "objects", "pointers"),
                    floats("has_pointer", "objects", "pointers"),
                ],
                [objects],
            )
        case VideoStage.MEMORY_ENCODER:
            return (
                [
                    embedding,
                    floats("low_res_masks", "objects", 1, mask, mask),
                    score,
                    floats("binarize", "objects"),
                ],
                [floats("memories", "objects", *memory)],
            )
        case VideoStage.VIDEO_DECODER:
            return (
                [
                    objects,
                    floats("point_coords", "objects", "points", 2),
                    floats("point_labels", "objects", "points"),
                    floats("mask_input", "objects", 1, mask, mask),
                    floats("has_mask_input", "objects"),
                    floats("bare", "objects"),
                    floats("absent", "objects"),
                    *further,
                ],
                [
                    floats("low_res_masks", "objects", 4, mask, mask),
                    floats("iou_predictions", "objects", 4),
                    score,
                    floats("pointers", "objects", 4, channels),
                ],
            )


def is_zero(tensor: Tensor) -> bool:
    """Tell whether an array is one zero that was broadcast: no backend has to copy its elements."""
    return (
        isinstance(tensor, np.ndarray)
        and tensor.size > 1
        and not any(tensor.strides)
        and not tensor.flat[0]
    )
