"""`samtrt build`: the ONNX graphs of a model directory to TensorRT engines, each with its record.

Every choice is made and checked here and in `jobs`; the building itself runs in a process of its
own (`process`, `worker`), so that it can be stopped, and may crash, without harm.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from samtrt._version import __version__
from samtrt.build.checks import (
    check_objects,
    check_options,
    encoder_without_plugin,
    takes_one_prompt,
)
from samtrt.build.graph import (
    fallback_note,
    graph_to_build,
    operators_note,
    slow_operators,
    without_operators,
)
from samtrt.build.jobs import exact_job, exact_sizes, make_job, mask_job, stages_to_build
from samtrt.build.options import BuildOptions, Built, Job, Progress
from samtrt.build.process import run_job
from samtrt.choices import EVERY_STAGE, AnyStage, Stage, Target, VideoStage
from samtrt.errors import BuildError, OutputError
from samtrt.files import check_ours, write_atomic
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.api import Api, load_api
from samtrt.tensorrt.engine_files import (
    engine_path,
    find_exact,
    is_engine_record,
    onnx_hashes,
    record_path,
)
from samtrt.tensorrt.plugin.library import LIBRARY_NAME
from samtrt.tensorrt.record import BuildFlags, EngineRecord, Exact

Report = Callable[[AnyStage, Progress], None]
Engine = AnyStage | tuple[AnyStage, Exact]
"""Which engine of a directory: that of a stage, or one for a size alone."""


def build_engines(
    directory: Path,
    target: Target,
    options: BuildOptions | None = None,
    stages: Sequence[AnyStage] | None = None,
    report: Report = lambda _stage, _progress: None,
    force: bool = False,
) -> dict[Engine, tuple[EngineRecord, Built]]:
    """Build the engines of a model directory and write each with its record.

    They are returned by stage; one for one size alone, by stage and size. An engine appears
    together with its record once it is whole; until then an older one stays.

    Args:
        directory: As written by `samtrt export`.
        target: TensorRT or TensorRT-RTX.
        options: Precision, profiles and the like.
        stages: Which engines; None for all that the directory has graphs of.
        report: Called from this thread as the build goes on.
        force: Whether engines are replaced that samtrt did not write.

    Raises:
        BackendError: where the library cannot start: no GPU (TensorRT), or too old a driver; or
            where the plugin library is missing, or for another version or GPU.
        BuildError: where an option does not fit the version or the model, the graph cannot be
            parsed, the build fails, or another process builds in the same directory.
        ManifestError: where the directory is not one of `samtrt export`.
        MissingExtraError: where the library is not installed.
        OutputError: where the directory cannot be written, or holds another tool's engines.
    """
    options = options or BuildOptions()
    manifest = Manifest.load(directory)
    stages = stages_to_build(manifest, directory, stages)
    _check_ours(directory, manifest, target, stages, options, force)
    api = load_api(target)
    check_options(api, manifest, options, directory)
    check_objects(api, stages, options)
    built: dict[Engine, tuple[EngineRecord, Built]] = {}
    with _only_builder(directory, target):
        for stage in stages:
            with tempfile.TemporaryDirectory(prefix=_work_prefix(target), dir=directory) as work:
                tell = partial(report, stage)
                chosen, note = _for_stage(manifest, target, stage, options)
                with manifest.checked(directory, stage) as graph:
                    job, notes = _prepare(api, manifest, stage, graph, chosen, Path(work), tell)
                    done = run_job(job, tell)
                warnings = tuple(filter(None, (note, *notes, *done.warnings)))
                done = done.model_copy(update={"warnings": warnings})
                built[stage] = _publish(directory, manifest, job, done), done
                _remove_exact(directory, stage, target)  # of the engine that was there before
                for exact in exact_sizes(manifest, stage, options, target):
                    one = exact_job(job, manifest, exact, directory, chosen)
                    with manifest.checked(directory, stage):
                        done = run_job(one, tell)
                    built[stage, exact] = _publish(directory, manifest, one, done), done
                if stage is Stage.DECODER and takes_one_prompt(api, options.plugin):
                    one = mask_job(job, Path(work), chosen)
                    built |= _for_masks(directory, manifest, one, built, tell)
    return built


def _for_masks(
    directory: Path,
    manifest: Manifest,
    job: Job,
    built: dict[Engine, tuple[EngineRecord, Built]],
    report: Callable[[Progress], None],
) -> dict[Engine, tuple[EngineRecord, Built]]:
    """Build the decoder for prompts that are a mask alone; where it fails, others do without.

    Returns:
        It, by its size; or the decoder with a warning.
    """
    assert job.exact
    try:
        with manifest.checked(directory, Stage.DECODER):
            done = run_job(job, report)
    except BuildError as error:
        record, decoder = built[Stage.DECODER]
        warning = (
            "prompts that are a mask alone will be errors, since their engine cannot be built: "
            f"{error}"
        )
        warned = decoder.model_copy(update={"warnings": (*decoder.warnings, warning)})
        return {Stage.DECODER: (record, warned)}
    return {(Stage.DECODER, job.exact): (_publish(directory, manifest, job, done), done)}


def _for_stage(
    manifest: Manifest, target: Target, stage: AnyStage, options: BuildOptions
) -> tuple[BuildOptions, str | None]:
    """Return the options for one stage, and what to tell where it does without the plugin."""
    if stage is VideoStage.MEMORY_ENCODER:  # standard operators alone
        return options.model_copy(update={"plugin": None}), None
    plugin = options.plugin if stage is Stage.ENCODER else None
    if plugin and (reason := encoder_without_plugin(manifest, plugin)):
        note = f"the encoder is built without the plugin, in standard operators: {reason}"
        return options.model_copy(update={"plugin": None}), note
    return options, fallback_note(manifest, target, options)


def _check_ours(
    directory: Path,
    manifest: Manifest,
    target: Target,
    stages: Sequence[AnyStage],
    options: BuildOptions,
    force: bool,
) -> None:
    """Make sure, before any work, that every file to be replaced is one that samtrt wrote.

    Raises:
        OutputError: where one is not: it lies there without a record.
    """
    engines: list[tuple[AnyStage, Exact | None]] = [(stage, None) for stage in stages]
    for stage in stages:
        engines += [(stage, exact) for exact in exact_sizes(manifest, stage, options, target)]
    for stage, exact in engines:
        record = record_path(directory, stage, target, exact)
        check_ours(record, is_engine_record, force)
        if not record.exists():
            check_ours(engine_path(directory, stage, target, exact), lambda _: False, force)
    if options.plugin and not any(directory.glob(f"*.{target.value}.json")):
        check_ours(directory / LIBRARY_NAME, lambda _: False, force)


def _remove_exact(directory: Path, stage: AnyStage, target: Target) -> None:
    for exact in find_exact(directory, stage, target):
        for place in (record_path, engine_path):
            place(directory, stage, target, exact).unlink(missing_ok=True)


def _prepare(
    api: Api,
    manifest: Manifest,
    stage: AnyStage,
    graph: Path,
    options: BuildOptions,
    work: Path,
    report: Callable[[Progress], None],
) -> tuple[Job, list[str]]:
    """Put into `work` what the building process needs and the directory has not.

    Returns:
        The job, and what the user is told about it.
    """
    notes = []
    if options.plugin and (slow := slow_operators(graph, options)):
        notes.append(operators_note(slow))
        graph = without_operators(graph, slow, work)
    written = graph_to_build(
        api, manifest, stage, graph, options, work, lambda t: report(Progress(share=None, text=t))
    )
    named = graph if options.plugin else written
    job = make_job(api, manifest, stage, written, work / "engine", options, named)
    if job.options != options:
        notes.append(
            f"{api.product} without --plugin takes one prompt at a time, and builds the decoder "
            f"for all sizes at optimization level {job.options.optimization_level}: several "
            "prompts run one after the other, which is slower"
        )
    if job.plugin is None:
        return job, notes
    # The engine is built with the very file that it will run with.
    library = work / LIBRARY_NAME
    try:
        shutil.copyfile(job.plugin, library)
    except OSError as error:
        raise OutputError(f"cannot copy {job.plugin} to {library}: {error.strerror}") from None
    return job.model_copy(update={"plugin": library}), notes


@contextmanager
def _only_builder(directory: Path, target: Target) -> Iterator[None]:
    lock = FileLock(directory / f".{target.value}.lock", timeout=0)
    try:
        with lock:
            for stale in directory.glob(f"{_work_prefix(target)}*"):  # of a build that was killed
                shutil.rmtree(stale, ignore_errors=True)
            yield
    except Timeout:
        raise BuildError(
            f"another process is building {target.value} engines in {directory}; wait for it, or "
            "build in a copy of the directory"
        ) from None
    except PermissionError as error:
        raise OutputError(f"cannot write into {directory}: {error.strerror}") from None


def _work_prefix(target: Target) -> str:
    return f".build-{target.value}-"


def _publish(directory: Path, manifest: Manifest, job: Job, built: Built) -> EngineRecord:
    """Move an engine and its record into place."""
    options = job.options
    path = engine_path(directory, job.stage, job.target, job.exact)
    file = FileEntry.of(job.output).model_copy(update={"name": path.name})
    record = EngineRecord(
        stage=job.stage,
        target=job.target,
        library_version=built.library_version,
        gpu=built.gpu,
        compute_capabilities=built.compute_capabilities,
        precision=job.precision,
        tf32=options.tf32,
        profiles=built.profiles,
        exact=job.exact,
        flags=BuildFlags(
            strongly_typed=job.strongly_typed,
            optimization_level=options.optimization_level,
            workspace=options.workspace,
            hardware_compatible=options.hardware_compatible,
            version_compatible=options.version_compatible,
        ),
        onnx=onnx_hashes(manifest, job.stage),
        file=file,
        plugin=FileEntry.of(job.plugin) if job.plugin else None,
        build_seconds=built.seconds,
        versions={"samtrt": __version__},
    )
    with write_atomic(record_path(directory, job.stage, job.target, job.exact)) as sidecar:
        sidecar.write_text(record.to_json(), encoding="utf-8")
        # Between these renames a reader finds an engine or a library that its record does not
        # describe, which is a clear error and heals itself.
        if job.plugin:
            job.plugin.replace(directory / job.plugin.name)
        elif job.target is Target.TENSORRT and not _other_has_plugin(directory, job.stage):
            (directory / LIBRARY_NAME).unlink(missing_ok=True)  # of an earlier engine
        job.output.replace(path)
    return record


def _other_has_plugin(directory: Path, stage: AnyStage) -> bool:
    """Tell whether another stage's engine has the plugin library."""
    for other in EVERY_STAGE:
        try:
            text = record_path(directory, other, Target.TENSORRT).read_bytes()
            if other is not stage and EngineRecord.from_json(text).plugin is not None:
                return True
        except (OSError, ValueError):  # no engine, or none that could run
            continue
    return False
