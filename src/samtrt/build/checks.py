"""Options that a version or a model does not allow, told before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samtrt.build.options import BuildOptions, Range
from samtrt.choices import (
    DEFAULT_FLOAT32,
    AnyStage,
    AttentionForm,
    Family,
    HardwareCompatibility,
    Precision,
    Target,
    VideoStage,
)
from samtrt.errors import BuildError
from samtrt.manifest import Manifest
from samtrt.tensorrt.api import Api
from samtrt.tensorrt.plugin.library import MOST_POINTS, PluginLibrary

HIERA_GRID = 4
"""Tokens of Hiera's first stage along a side, for each cell of the image embedding."""


def default_points(api: Api, plugin: Path | None) -> Range:
    """Return how many points prompts may have where nothing is said."""
    return Range(min=1 if takes_one_prompt(api, plugin) else 0, opt=5, max=20)


def takes_one_prompt(api: Api, plugin: Path | None) -> bool:
    """Tell whether a decoder takes one prompt at a time, and a mask alone in an engine of its own.

    TensorRT 8.6 in standard operators is right for one prompt only: what it builds for any number
    ends the process at the second one, and what it builds for 16 gives other masks (8.6.0 on an
    H100). It finds no implementation where there may be no tokens at all ("Could not find any
    implementation for node {ForeignNode[..."). The plugin has operators for all of these.
    """
    return api.is_tensorrt_8 and plugin is None


def uses_plugin(manifest: Manifest) -> bool:
    """Tell whether the graphs were exported with the plugin's operators."""
    return manifest.attention == AttentionForm.PLUGIN.value


def check_options(api: Api, manifest: Manifest, options: BuildOptions, directory: Path) -> None:
    """Make sure that this version can build this model so.

    Raises:
        BackendError: where the plugin library is missing, or is for something else.
        BuildError: where it cannot; the message says what to change.
    """
    for check in (
        _check_graph,
        _check_video,
        _check_plugin,
        _check_precision,
        _check_portability,
        _check_capabilities,
    ):
        check(api, manifest, options, directory)


def check_objects(api: Api, stages: Sequence[AnyStage], options: BuildOptions) -> None:
    """Make sure that no decoder of videos is to take several objects where it takes one prompt.

    Raises:
        BuildError: where it is; the message says what to change.
    """
    decodes = VideoStage.VIDEO_DECODER in stages and takes_one_prompt(api, options.plugin)
    if decodes and options.objects.max > 1:
        raise BuildError(
            f"{api.product} without --plugin gives wrong masks for several objects at once: say "
            "--objects 1, or take --plugin"
        )


def _check_graph(api: Api, manifest: Manifest, options: BuildOptions, directory: Path) -> None:
    if manifest.quantized:
        raise BuildError(
            f"{directory} holds an int8 model, which is for ONNX Runtime; build from the float32 "
            "directory that it was made from"
        )
    newest = api.newest_opset
    if newest is not None and manifest.opset > newest:
        raise BuildError(
            f"{directory} was exported with opset {manifest.opset} and {api.product} parses up to "
            f"{newest}; export it again with: samtrt export CHECKPOINT -o {directory} "
            f"--opset {newest}"
        )
    if options.batch and (options.batch.min, options.batch.max) != (1, 1):
        if not manifest.dynamic_batch:
            raise BuildError(
                f"--batch {options.batch} needs an encoder that takes several images, and the one "
                f"in {directory} takes one; export it again with: samtrt export CHECKPOINT -o "
                f"{directory} --dynamic-batch"
            )
        if options.batch.min < 1:
            raise BuildError("--batch must begin at 1 or more")
    if options.prompts.min < 1:
        raise BuildError("--prompts must begin at 1 or more")
    several = [str(exact) for exact in options.exact if exact.prompts > 1]
    if takes_one_prompt(api, options.plugin) and (options.prompts.min > 1 or several):
        what = f"--exact {several[0]}" if several else f"--prompts {options.prompts}"
        raise BuildError(
            f"{api.product} without --plugin gives wrong masks for several prompts at once; they "
            f"run one after the other there: instead of {what} say "
            f"{'--exact 1x2' if several else '--prompts 1'}, or take --plugin"
        )
    if options.exact and api.target is Target.TENSORRT_RTX:
        raise BuildError(f"{api.product} finishes engines for each size by itself: no --exact")
    for exact in options.exact:
        for name, size, within in (
            ("prompts", exact.prompts, options.prompts),
            ("points", exact.points, options.points),
        ):
            if size not in within:
                raise BuildError(
                    f"--exact {exact} has {size} {name}, which --{name} {within} does not include"
                )


def _check_video(api: Api, manifest: Manifest, options: BuildOptions, _directory: Path) -> None:
    if options.objects.min < 1:
        raise BuildError("--objects must begin at 1 or more")
    if options.exact_objects and api.target is Target.TENSORRT_RTX:
        raise BuildError(
            f"{api.product} finishes engines for each size by itself: no --exact-objects"
        )
    for count in options.exact_objects:
        if count not in options.objects:
            raise BuildError(
                f"--exact-objects {count} is not of --objects {options.objects}: widen that"
            )
    if manifest.video is None:
        return
    for name, asked, needed in (
        ("memories", options.memories, manifest.video.memories),
        ("pointers", options.pointers, manifest.video.pointers),
    ):
        if asked and needed not in asked:
            raise BuildError(
                f"--{name} {asked} does not include {needed}, which an object has that is pointed "
                "at on one frame"
            )


def _check_precision(api: Api, manifest: Manifest, options: BuildOptions, directory: Path) -> None:
    asked, exported = options.precision or manifest.precision, manifest.precision
    if exported is not Precision.FP32 and asked is not exported:
        raise BuildError(
            f"{directory} was exported in {exported.value}, from which {asked.value} cannot be "
            f"made; export it again with: samtrt export CHECKPOINT -o {directory} "
            "--precision fp32 (from which every precision can be built)"
        )
    if exported is not Precision.FP32 and set(options.float32) != set(DEFAULT_FLOAT32):
        raise BuildError(
            f"{directory} was exported in {exported.value}, which fixes what is in float32; "
            "--float32 works on directories exported in fp32"
        )
    typed = api.is_strongly_typed
    if not typed and asked is not Precision.FP32 and not api.has_flag(asked.name):
        raise BuildError(f"{api.product} has no {asked.value}; choose --precision fp16 or fp32")


def _check_portability(
    api: Api, _manifest: Manifest, options: BuildOptions, _directory: Path
) -> None:
    if api.target is Target.TENSORRT_RTX:
        for chosen, flag in (
            (options.version_compatible, "--version-compatible"),
            (options.hardware_compatible, "--hardware-compatible"),
        ):
            if chosen:
                raise BuildError(
                    f"{api.product} has no {flag}: its engines are finished on the GPU that runs "
                    "them; choose GPUs with --compute-capability"
                )
        return
    if options.version_compatible and not api.has_flag("VERSION_COMPATIBLE"):
        raise BuildError(f"{api.product} has no version-compatible engines (8.6 and later have)")
    wanted = options.hardware_compatible
    levels = getattr(api.trt, "HardwareCompatibilityLevel", None)
    names = {
        HardwareCompatibility.AMPERE_PLUS: "AMPERE_PLUS",
        HardwareCompatibility.SAME_CAPABILITY: "SAME_COMPUTE_CAPABILITY",
    }
    if wanted and not hasattr(levels, names[wanted]):
        raise BuildError(f"{api.product} has no --hardware-compatible {wanted.value}")


def _check_capabilities(
    api: Api, _manifest: Manifest, options: BuildOptions, _directory: Path
) -> None:
    if not options.compute_capabilities:
        return
    if api.target is not Target.TENSORRT_RTX:
        raise BuildError(
            f"{api.product} builds for the GPU at hand; --compute-capability is for "
            "--target tensorrt-rtx"
        )
    members = api.trt.ComputeCapability.__members__
    known = [f"{int(m[2:]) // 10}.{int(m[2:]) % 10}" for m in members if m.startswith("SM")]
    for capability in options.compute_capabilities:
        if capability not in known:
            raise BuildError(
                f"{api.product} does not compile for compute capability '{capability}'; it knows "
                f"{', '.join(known)}"
            )


def _check_plugin(api: Api, manifest: Manifest, options: BuildOptions, directory: Path) -> None:
    if options.plugin is None:
        return
    if not uses_plugin(manifest):
        form = AttentionForm.PLUGIN.value
        raise BuildError(
            f"--plugin is for models exported with --attention {form}, and the one in "
            f"{directory} was exported with --attention {manifest.attention}; export it again "
            f"with: samtrt export CHECKPOINT -o {directory} --attention {form}"
        )
    if api.target is not Target.TENSORRT:
        raise BuildError(f"{api.product} has no plugins (TensorRT has); leave out --plugin")
    if (options.precision or manifest.precision) is Precision.FP32:
        raise BuildError("the plugin computes in half precision; add --precision fp16")
    most = MOST_POINTS - (len(manifest.maps) > 1)  # SAM-HQ and SAM 2 have a token more
    if options.points.max > most:
        raise BuildError(
            f"the plugin takes up to {most} points a prompt and --points allows "
            f"{options.points.max}; lower its maximum, or leave out --plugin"
        )
    library = PluginLibrary.open(options.plugin)
    library.check_fits(api)
    encoder_without_plugin(manifest, options.plugin)  # a manifest may not say what it needs


def encoder_without_plugin(manifest: Manifest, plugin: Path) -> str | None:
    """Return why a plugin library is not for a model's encoder; None where it is.

    Its decoder is the same in every model. The library must be one that fits here.
    """
    if manifest.family is Family.EFFICIENTVIT:  # its activations alone, of any width
        return None
    if manifest.family not in (Family.VIT, Family.HIERA):
        return f"the plugin has no operators for the encoder of {manifest.model}"
    sizes, library = manifest.encoder_sizes, PluginLibrary.open(plugin)
    if manifest.family is Family.HIERA:
        grid = HIERA_GRID * manifest.embedding_size
        fits = library.supports_squares(sizes, grid)
    else:
        grid = manifest.embedding_size
        fits = library.supports(sizes, grid)
    if fits:
        return None
    return (
        f"{plugin.name} has no kernels for {manifest.model}'s encoder ({sizes.width} channels, "
        f"heads of {sizes.head_width}, windows of {sizes.window}, {grid} x {grid} tokens)"
    )
