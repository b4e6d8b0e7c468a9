"""samtrt: Segment Anything checkpoints as two fast, verified engines.

    from samtrt import Predictor

    with Predictor.load("model-directory") as predictor:
        predictor.set_image(image)
        masks, scores, low_res = predictor.predict(point_coords=[[500, 375]], point_labels=[1])

Names are imported when first used, so that `import samtrt` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from samtrt._version import __version__

if TYPE_CHECKING:
    from samtrt.backends import BackendOptions
    from samtrt.choices import BackendName
    from samtrt.errors import (
        BackendError,
        BuildError,
        CheckpointError,
        DownloadError,
        EngineError,
        ExportError,
        ImageError,
        ManifestError,
        MissingExtraError,
        OutputError,
        PromptError,
        SamtrtError,
        VerificationError,
    )
    from samtrt.images import read_image
    from samtrt.manifest import Manifest
    from samtrt.predictor import Predictor
    from samtrt.types import Embedding, Prediction

_HOMES = {
    "BackendName": "choices",
    "BackendOptions": "backends",
    "BackendError": "errors",
    "BuildError": "errors",
    "CheckpointError": "errors",
    "DownloadError": "errors",
    "EngineError": "errors",
    "ExportError": "errors",
    "ImageError": "errors",
    "ManifestError": "errors",
    "MissingExtraError": "errors",
    "OutputError": "errors",
    "PromptError": "errors",
    "SamtrtError": "errors",
    "VerificationError": "errors",
    "read_image": "images",
    "Manifest": "manifest",
    "Predictor": "predictor",
    "Embedding": "types",
    "Prediction": "types",
}

__all__ = [
    "BackendError",
    "BackendName",
    "BackendOptions",
    "BuildError",
    "CheckpointError",
    "DownloadError",
    "Embedding",
    "EngineError",
    "ExportError",
    "ImageError",
    "Manifest",
    "ManifestError",
    "MissingExtraError",
    "OutputError",
    "Prediction",
    "Predictor",
    "PromptError",
    "SamtrtError",
    "VerificationError",
    "__version__",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'samtrt' has no attribute '{name}'")
    return getattr(importlib.import_module(f"samtrt.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
