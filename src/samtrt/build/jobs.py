"""What the building process is told of one engine: made of the options, the model and its graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samtrt.backends.base import image_inputs, stage_tensors
from samtrt.build.checks import takes_one_prompt
from samtrt.build.graph import node_precisions
from samtrt.build.options import BuildOptions, Job, NodePrecision, Range
from samtrt.choices import AnyStage, Precision, Stage, Target, VideoStage
from samtrt.errors import BuildError
from samtrt.files import cache_dir
from samtrt.manifest import PROMPTED_FRAMES, Manifest
from samtrt.tensorrt.api import Api
from samtrt.tensorrt.plugin.library import LIBRARY_NAME
from samtrt.tensorrt.record import Exact, Profile


def stages_to_build(
    manifest: Manifest, directory: Path, asked: Sequence[AnyStage] | None
) -> tuple[AnyStage, ...]:
    """Return the stages that were asked for, or those of images and all that there are of videos.

    Raises:
        BuildError: where one is asked for that the directory has no graph of.
    """
    if not asked:
        return *Stage, *(stage for stage in VideoStage if stage in manifest.files)
    for stage in asked:
        if isinstance(stage, VideoStage) and stage not in manifest.files:
            raise BuildError(
                f"{directory} has no graph of the {stage.words}: export the checkpoint of a SAM 2 "
                "or EdgeTAM again with --video"
            )
    return tuple(dict.fromkeys(asked))


def make_job(
    api: Api,
    manifest: Manifest,
    stage: AnyStage,
    graph: Path,
    output: Path,
    options: BuildOptions,
    named: Path | None = None,
) -> Job:
    """Return what the building process needs to know of one stage.

    Args:
        api: The TensorRT that builds.
        manifest: Of the model directory.
        stage: Which engine.
        graph: What the parser takes.
        output: Where the engine goes.
        options: As asked; `for_all_sizes` says what of them may change.
        named: A graph of the same nodes that tells their types, where `graph` does not.
    """
    timing = options.timing_cache and api.target is Target.TENSORRT
    precision = options.precision or manifest.precision
    options = for_all_sizes(api, stage, options)
    nodes: tuple[NodePrecision, ...] = ()
    if not api.is_strongly_typed and precision is not Precision.FP32:
        nodes = node_precisions(named or graph, image_inputs(stage, manifest), options.float32)
    return Job(
        stage=stage,
        target=api.target,
        onnx=graph,
        output=output,
        precision=precision,
        strongly_typed=api.is_strongly_typed,
        nodes=nodes,
        profiles=profiles(manifest, stage, options),
        options=options,
        plugin=options.plugin,
        timing_cache=cache_dir() / "tensorrt" if timing else None,
    )


def for_all_sizes(api: Api, stage: AnyStage, options: BuildOptions) -> BuildOptions:
    """Return the options of the engine that is not for one size alone.

    TensorRT 8.6 finds no implementation for a decoder of standard operators with points in any
    number, but at optimization level 0, and `takes_one_prompt` says why it is built for one prompt.
    Objects of a video are its decoder's prompts: `check_objects` refuses several.
    """
    decodes = stage in (Stage.DECODER, VideoStage.VIDEO_DECODER)
    if not decodes or not takes_one_prompt(api, options.plugin):
        return options
    one, level = Range.only(1), options.optimization_level
    changed = {"prompts": one, "optimization_level": 0 if level is None else level}
    return options.model_copy(update=changed)


def profiles(manifest: Manifest, stage: AnyStage, options: BuildOptions) -> dict[str, Profile]:
    """Return the shapes of every input of a stage that is not fixed."""
    sizes = {"prompts": options.prompts, "points": options.points, "batch": options.batch}
    if isinstance(stage, VideoStage):
        sizes = _video_sizes(manifest, options)
    found = {}
    for info in stage_tensors(manifest, stage)[0]:
        if all(isinstance(size, int) for size in info.shape):
            continue
        shapes = {}
        for bound in ("min", "opt", "max"):
            shapes[bound] = tuple(
                size if isinstance(size, int) else getattr(sizes[size], bound, 1)
                for size in info.shape
            )
        found[info.name] = Profile(**shapes)
    return found


def _video_sizes(manifest: Manifest, options: BuildOptions) -> dict[str, Range | None]:
    """Return what each axis of a video's graphs may be."""
    assert manifest.video is not None

    def queue(asked: Range | None, least: int) -> Range:
        return asked or Range(min=least, opt=least, max=least + PROMPTED_FRAMES - 1)

    return {
        "objects": options.objects,
        "memories": queue(options.memories, manifest.video.memories),
        "pointers": queue(options.pointers, manifest.video.pointers),
        # Whatever a user points at is padded by one point, and nothing by two.
        "points": Range(min=2, opt=2, max=max(2, options.points.max)),
    }


def exact_sizes(
    manifest: Manifest, stage: AnyStage, options: BuildOptions, target: Target
) -> tuple[Exact, ...]:
    """Return the sizes that a stage gets engines of their own for."""
    if stage is Stage.DECODER:
        return options.exact
    if isinstance(stage, VideoStage) and target is Target.TENSORRT:
        assert manifest.video is not None
        return tuple(Exact(count, manifest.video.memories) for count in options.exact_objects)
    return ()


def mask_job(job: Job, work: Path, asked: BuildOptions) -> Job:
    """Return the job of a decoder for a prompt that is a mask alone, one at a time.

    TensorRT 8.6 runs what it builds for any number of them once, and ends the process at the next
    number.

    Args:
        job: Of the decoder for a prompt with points, which is done.
        work: Where the graph without points goes.
        asked: As of `exact_job`.

    Raises:
        ExportError: where that cannot be made.
        MissingExtraError: where `onnx` is not installed.
    """
    from samtrt.export.without_points import POINTS, write_without_points

    graph = work / "without-points" / job.onnx.name
    graph.parent.mkdir()
    write_without_points(job.onnx, graph)
    kept = {name: shape for name, shape in job.profiles.items() if name not in POINTS}
    return _for_size(job, Exact(1, 0), asked, kept).model_copy(update={"onnx": graph})


def exact_job(
    job: Job, manifest: Manifest, exact: Exact, directory: Path, asked: BuildOptions
) -> Job:
    """Return the job of a stage for one size, where that for all sizes is done.

    TensorRT takes a profile that leaves no choice for fixed shapes. The options are those that
    were asked for: the job for all sizes may have another optimization level.
    """
    sizes = {"prompts": exact.prompts, "points": exact.points}
    if isinstance(job.stage, VideoStage):
        assert manifest.video is not None
        objects, memories = exact
        sizes = {"objects": objects, "memories": memories, "pointers": manifest.video.pointers}
        sizes["points"] = 2  # of objects that are followed
    options = asked.model_copy(update={name: Range.only(n) for name, n in sizes.items()})
    # The library lies there once the engine for all sizes is in place.
    library = directory / LIBRARY_NAME if job.plugin else None
    one = _for_size(job, exact, asked, profiles(manifest, job.stage, options))
    return one.model_copy(update={"plugin": library})


def _for_size(job: Job, exact: Exact, asked: BuildOptions, shapes: dict[str, Profile]) -> Job:
    changed = {"output": job.output.with_name(f"engine-{exact}"), "exact": exact}
    return job.model_copy(update={**changed, "options": asked, "profiles": shapes})
