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
    from samtrt import assets
    from samtrt.automatic.generator import AutomaticMaskGenerator
    from samtrt.backends import BackendOptions
    from samtrt.build.engines import build_engines
    from samtrt.build.options import BuildOptions, Range
    from samtrt.checkpoints.load import Checkpoint, load_checkpoint
    from samtrt.choices import (
        AttentionForm,
        BackendName,
        Float32Part,
        HardwareCompatibility,
        Precision,
        Quantization,
        Resize,
        ResizeFilter,
        Stage,
        Target,
        ValueScale,
    )
    from samtrt.client import Client, RemoteImage, RemoteVideo
    from samtrt.errors import (
        BackendError,
        BuildError,
        CheckpointError,
        ClusterError,
        DeviceMemoryError,
        DownloadError,
        EngineError,
        ExportError,
        ImageError,
        ManifestError,
        MaskError,
        MissingExtraError,
        OutputError,
        PromptError,
        RemoteError,
        SamtrtError,
        VerificationError,
    )
    from samtrt.export.onnx import ExportOptions, export_model
    from samtrt.export.operators.graph import inline_fallback, strip_functions
    from samtrt.export.quantize import QuantizeOptions, quantize_model
    from samtrt.images import ImageNotice, read_image
    from samtrt.interactive import Segmenter
    from samtrt.manifest import Manifest
    from samtrt.masks.prediction import Prediction
    from samtrt.masks.record import MaskRecord
    from samtrt.official.generator import SamAutomaticMaskGenerator
    from samtrt.official.model import SamModel, sam_model_registry
    from samtrt.official.predictor import SamPredictor
    from samtrt.official.transform import ResizeLongestSide
    from samtrt.predictor import Predictor
    from samtrt.preparation.spec import Preparation, PreparationChanges
    from samtrt.tensorrt.plugin.library import register_plugins
    from samtrt.triton.client import TritonClient
    from samtrt.triton.image import TritonImage
    from samtrt.types import Embedding
    from samtrt.verification.compare import verify
    from samtrt.verification.report import Report, Thresholds
    from samtrt.video.predictor import VideoPredictor
    from samtrt.video.session import StreamingSession

_NAMES = {
    "automatic.generator": ("AutomaticMaskGenerator",),
    "backends": ("BackendOptions",),
    "build.engines": ("build_engines",),
    "build.options": (
        "BuildOptions",
        "Range",
    ),
    "checkpoints.load": (
        "Checkpoint",
        "load_checkpoint",
    ),
    "choices": (
        "AttentionForm",
        "BackendName",
        "Float32Part",
        "HardwareCompatibility",
        "Precision",
        "Quantization",
        "Resize",
        "ResizeFilter",
        "Stage",
        "Target",
        "ValueScale",
    ),
    "client": (
        "Client",
        "RemoteImage",
        "RemoteVideo",
    ),
    "errors": (
        "BackendError",
        "BuildError",
        "CheckpointError",
        "ClusterError",
        "DeviceMemoryError",
        "DownloadError",
        "EngineError",
        "ExportError",
        "ImageError",
        "ImageNotice",
        "ManifestError",
        "MaskError",
        "MissingExtraError",
        "OutputError",
        "PromptError",
        "RemoteError",
        "SamtrtError",
        "VerificationError",
    ),
    "export.onnx": (
        "ExportOptions",
        "export_model",
    ),
    "export.operators.graph": (
        "inline_fallback",
        "strip_functions",
    ),
    "export.quantize": (
        "QuantizeOptions",
        "quantize_model",
    ),
    "images": ("ImageNotice", "read_image"),
    "interactive": ("Segmenter",),
    "manifest": ("Manifest",),
    "masks.prediction": ("Prediction",),
    "masks.record": ("MaskRecord",),
    "official.generator": ("SamAutomaticMaskGenerator",),
    "official.model": (
        "SamModel",
        "sam_model_registry",
    ),
    "official.predictor": ("SamPredictor",),
    "official.transform": ("ResizeLongestSide",),
    "predictor": ("Predictor",),
    "preparation.spec": (
        "Preparation",
        "PreparationChanges",
    ),
    "tensorrt.plugin.library": ("register_plugins",),
    "triton.client": ("TritonClient",),
    "triton.image": ("TritonImage",),
    "types": ("Embedding",),
    "verification.compare": ("verify",),
    "verification.report": (
        "Report",
        "Thresholds",
    ),
    "video.predictor": ("VideoPredictor",),
    "video.session": ("StreamingSession",),
}
"""What is public, by the module that has it."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AttentionForm",
    "AutomaticMaskGenerator",
    "BackendError",
    "BackendName",
    "BackendOptions",
    "BuildError",
    "BuildOptions",
    "Checkpoint",
    "CheckpointError",
    "Client",
    "ClusterError",
    "DeviceMemoryError",
    "DownloadError",
    "Embedding",
    "EngineError",
    "ExportError",
    "ExportOptions",
    "Float32Part",
    "HardwareCompatibility",
    "ImageError",
    "ImageNotice",
    "Manifest",
    "ManifestError",
    "MaskError",
    "MaskRecord",
    "MissingExtraError",
    "OutputError",
    "Precision",
    "Prediction",
    "Predictor",
    "Preparation",
    "PreparationChanges",
    "PromptError",
    "Quantization",
    "QuantizeOptions",
    "Range",
    "RemoteError",
    "RemoteImage",
    "RemoteVideo",
    "Report",
    "Resize",
    "ResizeFilter",
    "ResizeLongestSide",
    "SamAutomaticMaskGenerator",
    "SamModel",
    "SamPredictor",
    "SamtrtError",
    "Segmenter",
    "Stage",
    "StreamingSession",
    "Target",
    "Thresholds",
    "TritonClient",
    "TritonImage",
    "ValueScale",
    "VerificationError",
    "VideoPredictor",
    "__version__",
    "assets",
    "build_engines",
    "export_model",
    "inline_fallback",
    "load_checkpoint",
    "quantize_model",
    "read_image",
    "register_plugins",
    "sam_model_registry",
    "strip_functions",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "assets":
        return importlib.import_module("samtrt.assets")
    if name not in _HOMES:
        raise AttributeError(f"module 'samtrt' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"samtrt.{_HOMES[name]}"), name)
    globals()[name] = value  # so that the next use is as quick as any other
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
