"""An exported model with an int8 encoder: layers that lose too much stay in float32.

Only the encoder's linear layers are quantized (per channel, by onnxruntime.quantization); they are
more than half of its time. How much each alone moves the image embedding is measured on images, and
the worst are left in float32 until the masks are as close as was asked for. The decoder, which
answers in milliseconds and on whose logits masks depend, stays as it is.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend
from samtrt.choices import AnyStage, AttentionForm, Precision, Quantization, Stage
from samtrt.encoding import prepare
from samtrt.errors import ExportError, MissingExtraError
from samtrt.export.hush import hushed
from samtrt.export.linear import LAYERS, linear_layers, order_by_need
from samtrt.files import staging_directory
from samtrt.manifest import FileEntry, Manifest, Quantized, check_model_directory
from samtrt.predictor import Predictor
from samtrt.types import UInt8Array, to_host
from samtrt.verification.compare import verify
from samtrt.verification.report import REDUCED, Report

try:
    from onnxruntime import quantization as ortq
except ImportError:
    raise MissingExtraError("Quantizing", "ort", "onnxruntime") from None

from samtrt.backends.ort import OnnxRuntimeBackend

_LEAVE_OUT = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75)
"""Shares of the layers that are tried to be left in float32, in this order."""


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize.

    Attributes:
        method: `dynamic` scales activations at each run; `static` by what they were on the images.
        min_iou: Least mean IoU of masks with those of the float32 model, over the images and the
            prompts of `verify.seeded_prompts`.
        keep: Layers to leave in float32, such as "blocks.0.mlp.lin2"; None measures which.
    """

    method: Quantization = Quantization.DYNAMIC
    min_iou: float = 0.995
    keep: tuple[str, ...] | None = None


def quantize_model(
    directory: Path,
    output: Path,
    images: Mapping[str, UInt8Array],
    options: QuantizeOptions | None = None,
    report: Callable[[str], None] = lambda _: None,
    force: bool = False,
) -> Manifest:
    """Write a model directory with an int8 encoder and the same other graphs.

    Args:
        directory: A float32 model directory.
        output: Made where it does not exist; an earlier model there is kept until all is done.
        images: uint8 [H, W, 3] by name, like those that the model will see.
        options: Method, limit and layers.
        report: Called with a line of text at each step.
        force: Whether graphs are replaced that samtrt did not write.

    Raises:
        ExportError: where the model is not float32, was exported for the plugin or has an encoder
            of convolutions, there is no image, a layer is unknown, or `min_iou` cannot be reached.
        ManifestError, OutputError: as when exporting.
    """
    options = options or QuantizeOptions()
    manifest = Manifest.load(directory)
    check_model_directory(output, force)
    if manifest.precision is not Precision.FP32 or manifest.quantized:
        raise ExportError(f"{directory} is not a float32 model: quantize one exported as fp32")
    if manifest.attention == AttentionForm.PLUGIN.value:
        raise ExportError(
            f"{directory} was exported with --attention plugin, whose linear layers are operators "
            "that cannot be quantized: export the checkpoint with --attention add, or tiled, and "
            "quantize that"
        )
    if manifest.family not in LAYERS:
        raise ExportError(
            f"the encoder in {directory} is made of convolutions, and int8 is for linear layers: "
            "export the checkpoint with --precision fp16 instead"
        )
    if not images:
        raise ExportError("quantizing needs images to measure on: give some with --calib")
    with (
        staging_directory(output) as staging,
        Predictor.load(directory) as float32,
        contextlib.ExitStack() as unchanged,
        manifest.checked(directory, Stage.ENCODER) as source,
    ):
        others = [stage for stage in manifest.files if stage is not Stage.ENCODER]
        for stage in others:
            unchanged.enter_context(manifest.checked(directory, stage))
        work = staging / "work"
        work.mkdir()
        encoder = _Encoder(source, work, float32, images, options.method)
        kept = _choose(encoder, options, report)
        outcome = encoder.compare(encoder.without(kept))
        shutil.move(encoder.path, staging / "encoder.onnx")
        shutil.rmtree(work)
        files: dict[AnyStage, tuple[FileEntry, ...]] = {}
        files[Stage.ENCODER] = (FileEntry.of(staging / "encoder.onnx"),)
        for stage in others:
            paths = [directory / entry.name for entry in manifest.files[stage]]
            copies = [Path(shutil.copy2(path, staging)) for path in paths]
            files[stage] = tuple(map(FileEntry.of, copies))
        record = Quantized(
            method=options.method,
            float32_layers=tuple(kept),
            images=len(images),
            mean_iou=float(np.mean(outcome.ious)),
        )
        manifest = manifest.model_copy(update={"files": files, "quantized": record})
        manifest.save(staging)
    return manifest


def _choose(
    encoder: _Encoder, options: QuantizeOptions, report: Callable[[str], None]
) -> list[str]:
    """Return the layers to leave in float32."""
    layers = list(encoder.layers)
    if options.keep is not None:
        unknown = sorted(set(options.keep) - set(layers))
        if unknown:
            raise ExportError(
                f"the encoder has no layer {unknown[0]}; it has {layers[0]} to {layers[-1]}"
            )
        return sorted(options.keep, key=layers.index)
    losses = {}
    for index, layer in enumerate(layers):
        losses[layer] = encoder.loss([layer])
        report(f"layer {index + 1} of {len(layers)}: {layer} alone loses {losses[layer]:.4f}")
    by_loss = sorted(layers, key=losses.__getitem__, reverse=True)
    iou = 0.0
    for share in _LEAVE_OUT:
        kept = by_loss[: round(share * len(layers))]
        iou = float(np.mean(encoder.compare(encoder.without(kept)).ious))
        report(f"{len(kept)} of {len(layers)} layers in float32: mean IoU {iou:.4f}")
        if iou >= options.min_iou:
            return sorted(kept, key=layers.index)
    raise ExportError(
        f"mean IoU is {iou:.4f} with most layers in float32, less than {options.min_iou}; allow "
        "less with --min-iou, or do not quantize this model"
    )


class _Encoder:
    """An encoder's graph, and what it gives with chosen layers quantized.

    Attributes:
        layers: Nodes of the linear layers, by name.
        path: Where the encoder is that was quantized last.
    """

    def __init__(
        self,
        source: Path,
        work: Path,
        float32: Predictor,
        images: Mapping[str, UInt8Array],
        method: Quantization,
    ) -> None:
        model = float32.manifest
        self._source = source
        self._float32, self._images, self._method = float32, images, method
        self._pixels = [to_host(prepare(image, model).pixels) for image in images.values()]
        self._expected = [self._maps(float32.encoder, pixels) for pixels in self._pixels]
        self.path = work / "quantized.onnx"
        self.layers = linear_layers(self._source, model.family)

    def without(self, kept: Sequence[str]) -> list[str]:
        return [layer for layer in self.layers if layer not in kept]

    def loss(self, layers: Sequence[str]) -> float:
        """Quantize these layers; return |a - b| / |b|, mean over the maps of all images."""
        with self._quantized(layers) as encoder:
            got = [self._maps(encoder, pixels) for pixels in self._pixels]
        pairs = zip(chain(*got), chain(*self._expected), strict=True)
        return float(np.mean([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs]))

    def compare(self, layers: Sequence[str]) -> Report:
        """Quantize these layers; compare masks with those of the float32 model."""
        with self._quantized(layers) as encoder:
            candidate = Predictor(encoder, self._float32.decoder, self._float32.manifest)
            return verify(self._float32, candidate, self._images, REDUCED)

    def _quantized(self, layers: Sequence[str]) -> Backend:
        if not layers:  # an empty list would mean all of them
            raise ExportError("every layer would stay in float32: nothing to quantize")
        common: dict[str, Any] = {
            "per_channel": True,
            # Without VNNI, pairs of products are added in 16 bits, which 8-bit weights overflow.
            "reduce_range": True,
            "weight_type": ortq.QuantType.QInt8,
            "op_types_to_quantize": ["MatMul"],
            "nodes_to_quantize": [self.layers[layer] for layer in layers],
        }
        with hushed():
            if self._method is Quantization.DYNAMIC:
                ortq.quantize_dynamic(self._source, self.path, **common)
            else:
                reader = _Reader(self._pixels)
                activations = ortq.QuantType.QUInt8
                ortq.quantize_static(
                    self._source, self.path, reader, activation_type=activations, **common
                )
        order_by_need(self.path)
        return OnnxRuntimeBackend(self.path, BackendOptions())

    def _maps(
        self, encoder: Backend, pixels: npt.NDArray[np.float32]
    ) -> list[npt.NDArray[np.float32]]:
        """Return all that flows from encoder to decoder, for one prepared image."""
        found = encoder.run({"images": pixels})
        return [found[one.name] for one in self._float32.manifest.maps]


class _Reader(ortq.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pixels: Sequence[npt.NDArray[np.float32]]) -> None:
        self._rest = iter(pixels)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        image = next(self._rest, None)
        return None if image is None else {"images": image}
