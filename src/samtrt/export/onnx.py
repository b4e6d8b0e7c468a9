"""From a checkpoint to a model directory: ONNX graphs and the manifest that vouches for them.

The graphs come from `torch.export` (no operation is run, so memory stays near the size of the
weights), are simplified, brought to the asked opset, checked, and moved into place together.
"""

from __future__ import annotations

from samtrt.export.trace import simplify_graph, trace_graph  # isort: skip  first: names extras

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from samtrt._version import __version__
from samtrt.backends.base import image_inputs
from samtrt.backends.pytorch import manifest_of, set_masks, video_of
from samtrt.checkpoints.load import Checkpoint, load_sam
from samtrt.choices import AnyStage, AttentionForm, Precision, Stage, VideoStage
from samtrt.errors import ExportError, OutputError, SamtrtError
from samtrt.export.finish import check_borders, finish_graph
from samtrt.export.float32_parts import EXPORTED_PARTS, FLOAT32_STAGES
from samtrt.export.hush import hushed
from samtrt.export.operators.gelu_tanh import GELU_TANH
from samtrt.export.plugin import PluginKernels, attend_to_memories, feed_as_image
from samtrt.export.plugin_decoder import PluginDecoder, PluginTransformer
from samtrt.export.plugin_hiera import PluginHiera
from samtrt.export.precision import BFLOAT16_OPSET, convert, load_graph, save_graph
from samtrt.files import staging_directory
from samtrt.manifest import FileEntry, Manifest, check_model_directory
from samtrt.models import Sam
from samtrt.models.efficientvit import ConvLayer
from samtrt.models.hiera import Hiera
from samtrt.models.hq import MaskDecoderHq
from samtrt.models.mask_decoder import MaskDecoder
from samtrt.models.memory import MemoryAttentionLayer
from samtrt.models.pyramid import PyramidEncoder
from samtrt.models.rotary import RotaryAttention, mix_values
from samtrt.models.vit import ImageEncoderViT
from samtrt.registry import EfficientViTSpec, HieraSpec, ModelSpec, Sam2Spec, ViTSpec

NEWEST_OPSET = 22  # 23 turns attention into one operator, which TensorRT 10.0 does not parse
OLDEST_OPSET = 17
DEFAULT_OPSET = 20
"""The newest that every TensorRT 10 parses (10.0: 9 to 20); TensorRT 8.6 needs 17."""


def default_opset(precision: Precision) -> int:
    """Return the oldest opset of `DEFAULT_OPSET` and later that has the precision."""
    return max(DEFAULT_OPSET, BFLOAT16_OPSET) if precision is Precision.BF16 else DEFAULT_OPSET


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        precision: What the graphs compute in; inputs and outputs are float32 either way.
        opset: ONNX opset, 17 to 22.
        dynamic_batch: Let the encoder take any number of images in one run.
        simplify: Run onnx-simplifier.
        attention: How the encoder adds relative positions: any form but `mask`.
        hq_token_only: Of a SAM-HQ: give its own mask alone, not the sum with SAM's.
        video: Export the graphs that follow objects through videos too (SAM 2, EdgeTAM).
    """

    precision: Precision = Precision.FP32
    opset: int = DEFAULT_OPSET
    dynamic_batch: bool = False
    simplify: bool = True
    attention: AttentionForm = AttentionForm.ADD
    hq_token_only: bool = False
    video: bool = False

    def __post_init__(self) -> None:
        if not OLDEST_OPSET <= self.opset <= NEWEST_OPSET:
            raise ExportError(
                f"opset {self.opset} is not supported: choose {OLDEST_OPSET} (TensorRT 8.6) to "
                f"{NEWEST_OPSET}"
            )
        if self.precision is Precision.BF16 and self.opset < BFLOAT16_OPSET:
            raise ExportError(
                f"bf16 needs opset {BFLOAT16_OPSET}: in {self.opset} not every operator has it"
            )
        if self.attention is AttentionForm.MASK:
            raise ExportError(
                "attention 'mask' is for PyTorch: export 'add', 'tiled', 'folded' or 'plugin'"
            )
        if self.attention is AttentionForm.PLUGIN and self.precision is not Precision.FP32:
            raise ExportError(
                "attention 'plugin' is exported in fp32, from which samtrt build makes every "
                f"precision; leave out --precision {self.precision.value}"
            )


def export_model(
    checkpoint: Checkpoint,
    directory: Path,
    options: ExportOptions | None = None,
    report: Callable[[str], None] = lambda _: None,
    force: bool = False,
) -> Manifest:
    """Write a graph for each stage, such as `encoder.onnx`, and `samtrt.json` into `directory`.

    All files appear together once every one has been written and checked; an earlier export in
    the same place is kept until then.

    Args:
        checkpoint: As loaded by `samtrt.checkpoints.load.load_checkpoint`.
        directory: Made where it does not exist.
        options: Precision, opset and the like.
        report: Called with a line of text at each step.
        force: Whether graphs are replaced that samtrt did not write.

    Raises:
        ExportError: where a graph cannot be made or fails its checks.
        OutputError: where the directory cannot be written or has too little room, or holds another
            tool's graphs.
    """
    options = options or ExportOptions()
    if options.hq_token_only and not checkpoint.spec.hq:
        raise ExportError(
            f"{checkpoint.spec.name} is no SAM-HQ and has no HQ token: leave out --hq-token-only"
        )
    if options.video and video_of(checkpoint) is None:
        raise ExportError(
            f"{checkpoint.spec.name} has no modules for videos, which a whole SAM 2 or EdgeTAM "
            "has: leave out --video"
        )
    check_model_directory(directory, force)
    sam = load_sam(checkpoint)
    # So it is faster on CPUs; TensorRT 8.6 has met the other form alone.
    sam.mask_decoder.transformer.project_image(options.opset > OLDEST_OPSET)
    _set_form(sam, options.attention, report)
    _set_memory_attention(sam, options)
    if isinstance(sam.mask_decoder, MaskDecoderHq):
        # TensorRT 8.6 has met the convolution alone.
        sam.mask_decoder.weighs_first = options.opset > OLDEST_OPSET
    manifest = _manifest(checkpoint, options)
    set_masks(sam, manifest)
    weights = sum(p.numel() * p.element_size() for p in sam.parameters())
    with staging_directory(directory) as staging:
        _check_room(staging, 3 * weights)
        files: dict[AnyStage, tuple[FileEntry, ...]] = {}
        for stage in (*Stage, *(VideoStage if options.video else ())):
            path = _export_stage(sam, stage, manifest, staging, options, report)
            check_borders(path, stage, manifest)
            parts = [path, path.with_name(path.name + ".data")]
            files[stage] = tuple(FileEntry.of(part) for part in parts if part.exists())
        manifest = manifest.model_copy(update={"files": files})
        manifest.save(staging)
    return manifest


def plugin_notices(spec: ModelSpec) -> tuple[str, ...]:
    """Say what of a model stays in standard operators in the plugin's form, a line each."""
    told = []
    if isinstance(spec, EfficientViTSpec):
        told.append("in standard operators: the encoder but for its activations")
    elif not isinstance(spec, ViTSpec | HieraSpec):
        told.append(
            f"in standard operators: the encoder, as the plugin has none for a {spec.family.value}"
        )
    if spec.hq or isinstance(spec, Sam2Spec):
        told.append(
            "in standard operators: the decoder's upscaling and its heads, as the plugin's are for "
            "SAM's own decoder; all before them is in the plugin's"
        )
    return tuple(told)


def _set_form(sam: Sam, form: AttentionForm, report: Callable[[str], None]) -> None:
    """Give the model the form that was asked for, as far as its encoder has such forms."""
    is_vit = isinstance(sam.image_encoder, ImageEncoderViT)
    if form is AttentionForm.PLUGIN:  # a ViT's encoder is written anew, see trace_graph
        sam.kernels = PluginKernels()
        decoder = sam.mask_decoder
        if type(decoder) is MaskDecoder:
            sam.add_module("mask_decoder", PluginDecoder(decoder))
        else:  # SAM-HQ's and SAM 2's have more tokens than the operator of their heads
            decoder.add_module("transformer", PluginTransformer(decoder.transformer))
        encoder = sam.image_encoder
        if isinstance(encoder, PyramidEncoder) and isinstance(encoder.trunk, Hiera):
            encoder.add_module("trunk", PluginHiera(encoder.trunk))
        for module in sam.modules():
            if isinstance(module, ConvLayer) and module.act:
                module.act = GELU_TANH
        for notice in plugin_notices(sam.spec):
            report(notice)
    elif not is_vit and form is not AttentionForm.ADD:
        raise ExportError(
            f"attention '{form.value}' is for ViT encoders, and a {sam.spec.family.value} has one "
            "form alone: leave out --attention"
        )
    else:
        sam.set_attention_form(form)


def _set_memory_attention(sam: Sam, options: ExportOptions) -> None:
    """Have memories mixed before they are projected, as they are a quarter as wide.

    With the plugin, linear layers after that are convolutions.

    Not for TensorRT 8.6 in standard operators, which computes attention wrongly where queries and
    values differ in width.
    """
    kernel = attend_to_memories
    if options.attention is not AttentionForm.PLUGIN:
        if options.opset == OLDEST_OPSET:
            return
        kernel = mix_values
    for module in sam.modules():
        if isinstance(module, RotaryAttention):
            module.kernel = kernel
        elif isinstance(module, MemoryAttentionLayer) and kernel is attend_to_memories:
            module.feed = feed_as_image


def _export_stage(
    sam: Sam,
    stage: AnyStage,
    manifest: Manifest,
    staging: Path,
    options: ExportOptions,
    report: Callable[[str], None],
) -> Path:
    """Trace, simplify, convert, write and check one graph; return its path in `staging`."""
    work = staging / f"{stage.value}.work"
    work.mkdir()
    path = work / "traced.onnx"
    final = staging / f"{stage.value}.onnx"
    try:
        report(f"exporting {stage.words}")
        with hushed():
            trace_graph(sam, stage, manifest, path)
        if options.simplify:
            report(f"simplifying {stage.words}")
            with hushed():
                path = simplify_graph(path, work / "simplified.onnx")
        if stage not in FLOAT32_STAGES[options.precision]:
            parts = EXPORTED_PARTS[options.precision]
            held = image_inputs(stage, manifest)
            typed = convert(load_graph(path), options.precision, held, parts)
            path = work / "typed.onnx"
            save_graph(typed, path)
        report(f"checking {stage.words}")
        finish_graph(path, final, options.opset)
    except (SamtrtError, OSError):
        raise
    except Exception as error:  # exporter, simplifier and checker share no base class
        if shutil.disk_usage(staging).free < 1 << 20:
            raise OutputError(f"cannot write {staging.parent}: no space left on device") from None
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first = str(cause).strip().splitlines()[:1] or [type(cause).__name__]
        raise ExportError(f"cannot export the {stage.words}: {first[0]}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def _manifest(checkpoint: Checkpoint, options: ExportOptions) -> Manifest:
    tools = ("torch", "onnx", "onnxscript", "onnxsim")
    return manifest_of(checkpoint).model_copy(
        update={
            "precision": options.precision,
            "opset": options.opset,
            "simplified": options.simplify,
            "dynamic_batch": options.dynamic_batch,
            "attention": options.attention.value,
            "hq_token_only": options.hq_token_only,
            "versions": {"samtrt": __version__, **{name: version(name) for name in tools}},
        }
    )


def _check_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OutputError(
            f"exporting needs about {needed / 1e9:.1f} GB free at {directory.parent} and there "
            f"are {free / 1e9:.1f} GB; free some, or name another --output"
        )
