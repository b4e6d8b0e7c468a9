"""`samtrt build`: ONNX to TensorRT engines."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import (
    EVERY_STAGE,
    AnyStage,
    Float32Part,
    HardwareCompatibility,
    Precision,
    Target,
)
from samtrt.cli.build_sizes import (
    DEFAULT_EXACT,
    DEFAULT_EXACT_OBJECTS,
    counts_of,
    exact_of,
    range_of,
    stages_of,
)
from samtrt.cli.options import ModelDir
from samtrt.cli.reading import ForceOption
from samtrt.cli.screen import next_check

if TYPE_CHECKING:
    from samtrt.build.options import BuildOptions
    from samtrt.tensorrt.api import Api


def command(
    directory: ModelDir,
    target: Annotated[Target, typer.Option("--target", "-t", help="What to build for.")],
    stage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help=f"Build {', '.join(one.value for one in EVERY_STAGE)} alone; repeatable. "
            "Default: all that DIR has graphs of.",
        ),
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Default: what the graphs were exported in.")
    ] = None,
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Let float32 products round their factors to TF32.")
    ] = False,
    float32: Annotated[
        list[Float32Part] | None,
        typer.Option(help="Stays in float32 at half precision; repeatable. [norms, prompts]"),
    ] = None,
    prompts: Annotated[
        str,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Prompts that one decoder run takes; with TensorRT 8.6 and no --plugin one.",
        ),
    ] = "1:1:64",
    points: Annotated[
        str | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Points of each prompt; a box is two, a mask alone none. [0:5:20, or 1:5:20 for "
            "TensorRT 8.6 without --plugin, and of SAM-HQ and SAM 2]",
        ),
    ] = None,
    exact: Annotated[
        str | None,
        typer.Option(
            metavar="PxN,...",
            help="TensorRT: numbers of prompts and points that the decoder also gets faster "
            f"engines for, or none. [those of {DEFAULT_EXACT} that fit]",
        ),
    ] = None,
    objects: Annotated[
        str, typer.Option(metavar="MIN:OPT:MAX", help="Of videos: objects that one run takes.")
    ] = "1:1:8",
    exact_objects: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="TensorRT, of videos: numbers of objects that also get faster engines, or none. "
            f"[{DEFAULT_EXACT_OBJECTS}]",
        ),
    ] = None,
    memories: Annotated[
        str | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Of videos: memories of an object; each further prompted frame takes one. "
            "[7:7:10]",
        ),
    ] = None,
    pointers: Annotated[
        str | None,
        typer.Option(metavar="MIN:OPT:MAX", help="Of videos: object pointers. [16:16:19]"),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="MIN:OPT:MAX", help="Images that one encoder run takes; after --dynamic-batch."
        ),
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="0 builds fastest, 5 runs fastest.")
    ] = None,
    workspace: Annotated[
        float | None, typer.Option(min=0.001, help="GiB that a layer may use. Default: all.")
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(metavar="X.Y", help="TensorRT-RTX: compile for such GPUs; repeatable."),
    ] = None,
    hardware_compatible: Annotated[
        HardwareCompatibility | None, typer.Option(help="TensorRT: other GPUs may run it.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="TensorRT: later versions may run it.")
    ] = False,
    plugin: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TensorRT: library of 'samtrt plugin', after --attention plugin.",
        ),
    ] = None,
    timing_cache: Annotated[
        bool, typer.Option(help="TensorRT: keep measured kernel times for later builds.")
    ] = True,
    device: Annotated[
        str | None,
        typer.Option(help="TensorRT: GPU to build on, cuda or cuda:N. Default: the first."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print equivalent trtexec commands; build nothing."),
    ] = False,
    force: ForceOption = False,
) -> None:
    """Compile a model directory's graphs into TensorRT engines."""
    from samtrt.build.checks import default_points, takes_one_prompt
    from samtrt.build.options import BuildOptions, Range

    gpu = _gpu_number(device)
    most_prompts = Range.parse(prompts, "--prompts")
    api = _api(target, explain)
    most_points = default_points(api, plugin) if points is None else Range.parse(points, "--points")
    at_once = Range.only(1) if takes_one_prompt(api, plugin) else most_prompts
    options = BuildOptions(
        precision=precision,
        tf32=tf32,
        **({"float32": tuple(float32)} if float32 else {}),
        prompts=most_prompts,
        points=most_points,
        exact=exact_of(exact, target, at_once, most_points),
        objects=Range.parse(objects, "--objects"),
        memories=range_of(memories, "--memories"),
        pointers=range_of(pointers, "--pointers"),
        exact_objects=counts_of(exact_objects, target, Range.parse(objects, "--objects")),
        batch=range_of(batch, "--batch"),
        optimization_level=optimization_level,
        workspace=None if workspace is None else int(workspace * 2**30),
        compute_capabilities=tuple(compute_capability or ()),
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
        plugin=plugin,
        timing_cache=timing_cache,
        device=gpu,
    )
    stages = stages_of(directory, stage)
    if explain:
        _explain(directory, target, options, stages)
    else:
        _build(directory, target, options, stages, force)


def _api(target: Target, explain: bool) -> Api:
    """Return what TensorRT here can do or, to explain, what it would."""
    from samtrt.errors import MissingExtraError
    from samtrt.tensorrt.api import assumed_api, load_api

    try:
        return load_api(target)
    except MissingExtraError:
        if not explain:
            raise
        return assumed_api(target)


def _gpu_number(device: str | None) -> int:
    """Return N of "cuda:N", and 0 for "cuda" and where nothing was said."""
    match = re.fullmatch(r"cuda(?::(\d+))?", device or "cuda")
    if not match:
        raise typer.BadParameter(f"engines are built on a GPU, cuda or cuda:N, not on '{device}'")
    return int(match[1] or 0)


def _build(
    directory: Path,
    target: Target,
    options: BuildOptions,
    stages: tuple[AnyStage, ...],
    force: bool,
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from samtrt.build.engines import build_engines
    from samtrt.manifest import Manifest

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {stage: bars.add_task(stage.words, total=None, start=False) for stage in stages}

        def report(stage: AnyStage, share: float | None, text: str) -> None:
            bars.start_task(tasks[stage])
            bars.update(
                tasks[stage],
                description=f"{stage.words}: {text}",
                total=None if share is None else 1.0,
                completed=share or 0.0,
            )

        built = build_engines(
            *(directory, target, options, stages),
            lambda s, p: report(s, p.share, p.text),
            force,
        )
    for record, facts in built.values():
        for warning in facts.warnings if record.exact is None else ():
            console.print(f"[yellow]warning[/] ({record.stage.words}): {warning}", highlight=False)
        typer.echo(
            f"{directory / record.file.name}  {record.file.size / 1e6:.1f} MB, "
            f"{record.precision.value}, {record.build_seconds:.1f} s, "
            f"{record.gpu or 'compute capability ' + ', '.join(record.compute_capabilities)}"
        )
    next_check(directory, Manifest.load(directory), "--backend", target.value)


def _explain(
    directory: Path, target: Target, options: BuildOptions, stages: tuple[AnyStage, ...]
) -> None:
    from tempfile import TemporaryDirectory

    from samtrt.build.checks import check_options, uses_plugin
    from samtrt.build.graph import plain_graph_command, without_functions
    from samtrt.build.jobs import make_job
    from samtrt.build.trtexec import trtexec_command
    from samtrt.manifest import Manifest
    from samtrt.tensorrt.engine_files import engine_path

    manifest, api = Manifest.load(directory), _api(target, explain=True)
    check_options(api, manifest, options, directory)
    assumed = "" if api.is_here else ", which is not installed here: another version may differ"
    typer.echo(f"# {api.product}{assumed}")
    for stage in stages:
        output, graph = engine_path(directory, stage, target), manifest.path_of(directory, stage)
        named = graph
        with ExitStack() as stack:
            if uses_plugin(manifest):
                work = Path(stack.enter_context(TemporaryDirectory()))
                if not options.plugin:
                    named = without_functions(graph, options, work)
                graph, command = plain_graph_command(graph, options)
                typer.echo(f"# The tool does not know the graph's functions, so first: {command}")
            job = make_job(api, manifest, stage, graph, output, options, named)
            words = trtexec_command(api, job)
        if job.strongly_typed and job.precision is not manifest.precision:
            typer.echo(
                "# The tool takes types from the graph, so first: samtrt export CHECKPOINT "
                f"-o {directory} --precision {job.precision.value}"
            )
        typer.echo(words)
