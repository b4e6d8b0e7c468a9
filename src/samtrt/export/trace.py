"""From a module to a graph: PyTorch's exporter and onnx-simplifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samtrt.backends.base import stage_tensors
from samtrt.choices import AnyStage, AttentionForm, Stage
from samtrt.errors import ExportError, MissingExtraError

try:
    import onnx  # noqa: F401  torch's exporter needs this and the next, and says so less clearly
    import onnxscript  # noqa: F401
    import onnxsim
    import torch
except ImportError as error:
    raise MissingExtraError("Exporting", "export", error.name or "torch") from None

from samtrt.export.finish import EXPORTER_OLDEST
from samtrt.export.plugin import PluginEncoder, plugin_translations
from samtrt.manifest import Manifest
from samtrt.models import Sam
from samtrt.models.graphs import example_inputs, graph_of
from samtrt.models.vit import ImageEncoderViT

# Folding a 3-D linear layer into Gemm wraps it into two reshapes, which costs more than it saves
# and hides the layer from TensorRT's and ONNX Runtime's own fusions.
_SKIPPED_SIMPLIFICATIONS = ["fuse_matmul_add_bias_into_gemm_batched"]


def trace_graph(sam: Sam, stage: AnyStage, manifest: Manifest, path: Path) -> None:
    """Write what PyTorch's exporter makes of a stage of a model in evaluation mode.

    Args:
        sam: The model, in the form of attention that the manifest names.
        stage: Which graph.
        manifest: Names and shapes of inputs and outputs, opset, and what of a batch may vary.
        path: Where to write; weights go beside it, with `.data` added to the name.
    """
    example = example_inputs(sam, stage)
    outputs = [info.name for info in stage_tensors(manifest, stage)[1]]
    if stage is Stage.ENCODER:
        encoder, written = sam.image_encoder, None
        if manifest.attention == AttentionForm.PLUGIN.value and isinstance(
            encoder, ImageEncoderViT
        ):
            written = PluginEncoder(encoder)
        graph = graph_of(sam, stage, written)
        if not manifest.dynamic_batch:
            example = {name: tensor[:1] for name, tensor in example.items()}
    else:
        graph = graph_of(sam, stage)
    torch.onnx.export(
        graph.eval(),
        tuple(example.values()),
        path,
        input_names=list(example),
        output_names=outputs,
        opset_version=max(manifest.opset, EXPORTER_OLDEST),
        dynamic_shapes=_dynamic_axes(manifest, stage),
        dynamo=True,
        custom_translation_table=plugin_translations(),
        external_data=True,
        verbose=False,
    )


def _dynamic_axes(manifest: Manifest, stage: AnyStage) -> dict[str, Any]:
    """Return which axes of a stage's inputs may vary, as PyTorch's exporter takes it."""
    further = {one.name for one in manifest.maps[1:]}
    inputs, _ = stage_tensors(manifest, stage)
    sizes: dict[str, Any] = {}
    axes: dict[str, Any] = {
        info.name: {
            axis: sizes.setdefault(size, torch.export.Dim(size))
            for axis, size in enumerate(info.shape)
            if isinstance(size, str)
        }
        for info in inputs
        if info.name not in further
    }
    if rest := len(inputs) - len(axes):
        axes["further"] = ({},) * rest  # None would be taken for an axis
    return axes


def simplify_graph(path: Path, out: Path) -> Path:
    """Write a simplified graph to `out`, and return that.

    Raises:
        ExportError: where it gives other results.
    """
    _, ok = onnxsim.simplify(
        str(path),
        output_path=str(out),
        skipped_optimizers=_SKIPPED_SIMPLIFICATIONS,
        external_data_threshold="1GB",
    )
    if not ok:
        raise ExportError("onnx-simplifier changed the results; export with --no-simplify")
    return out
