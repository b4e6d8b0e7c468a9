"""Runtimes for the two stages, chosen by name. Nothing falls back to anything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samtrt.choices import AnyStage, BackendName, PixelWork, Target
from samtrt.errors import BackendError

if TYPE_CHECKING:
    from samtrt.backends.base import Backend
    from samtrt.manifest import Manifest

__all__ = ["BackendOptions", "open_backend"]


@dataclass(frozen=True)
class BackendOptions:
    """What a user may say about how to run a stage.

    Attributes:
        device: "cpu", "cuda" or "cuda:N". None is the backend's own: the first GPU for TensorRT,
            the CPU for all others.
        pixels: Where images are prepared and masks are formed.
        threads: CPU threads within one operation; 0 leaves it to the runtime.
        checkpoint: The checkpoint file, for the `pytorch` backend.
    """

    device: str | None = None
    threads: int = 0
    pixels: PixelWork = PixelWork.DEVICE
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= MOST_THREADS:
            raise BackendError(f"threads must be 0..{MOST_THREADS}, not {self.threads}")


MOST_THREADS = 1024
"""More than any machine has cores; each costs memory, and runtimes start all of them."""


def open_backend(
    name: BackendName | str,
    directory: Path,
    manifest: Manifest,
    stage: AnyStage,
    options: BackendOptions | None = None,
) -> Backend:
    """Load one stage of a model directory.

    Raises:
        BackendError: where the backend cannot run here or cannot load the stage.
        ManifestError: where the stage's file is not the one that was exported.
        MissingExtraError: where the backend's package is not installed.
    """
    options = options or BackendOptions()
    try:
        chosen_name = BackendName(name)
    except ValueError:
        known = ", ".join(each.value for each in BackendName)
        raise BackendError(f"unknown backend '{name}'; use one of {known}") from None
    match chosen_name:
        case BackendName.ONNXRUNTIME:
            from samtrt.backends.in_parts import open_in_parts
            from samtrt.backends.ort import OnnxRuntimeBackend

            with manifest.checked(directory, stage) as path:
                if options.device not in (None, "cpu"):
                    return OnnxRuntimeBackend(path, options)
                return open_in_parts(
                    path, manifest, stage, lambda part: OnnxRuntimeBackend(path, options, part)
                )
        case BackendName.OPENVINO | BackendName.OPENVINO_BF16 as chosen:
            from samtrt.backends.in_parts import open_in_parts
            from samtrt.backends.openvino import OpenVinoBackend

            with manifest.checked(directory, stage) as path:
                given = chosen, path, manifest, stage, options
                return open_in_parts(
                    path,
                    manifest,
                    stage,
                    lambda part: OpenVinoBackend(*given, part),
                    lambda part: OpenVinoBackend(*given, part, prompts=1),
                )
        case BackendName.TENSORRT | BackendName.TENSORRT_RTX as chosen:
            from samtrt.backends.tensorrt.backend import TensorRtBackend

            return TensorRtBackend(directory, manifest, stage, Target(chosen.value), options)
        case BackendName.PYTORCH:
            from samtrt.backends.pytorch import PyTorchBackend

            return PyTorchBackend.open(manifest, stage, options)
