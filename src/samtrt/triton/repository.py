"""Writing a model repository for Triton Inference Server.

    REPOSITORY/
      sam/            config.pbtxt  1/ model.py, samtrt.json, samtrt-triton.json
      sam_encoder/    config.pbtxt  1/ encoder.onnx (or an engine) and what belongs to it
      sam_decoder/    config.pbtxt  1/ decoder.onnx ...
      sam_auto/       config.pbtxt  1/ model.py ...

Encoder and decoder are put there before the model that calls them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samtrt._version import __version__
from samtrt.choices import BackendName, Precision, Stage, Target, TritonPlatform
from samtrt.errors import OutputError
from samtrt.manifest import MANIFEST_NAME, Manifest
from samtrt.tensorrt.engine_files import (
    engine_path,
    find_exact,
    load_engine_record,
    record_path,
)
from samtrt.tensorrt.record import EngineRecord
from samtrt.triton.models import Scaling, auto_config, batch_of, sam_config, stage_config
from samtrt.triton.placing import RepositoryModel, check_place, fill, publish
from samtrt.triton.settings import MIB, SETTINGS_NAME, Limits, Settings
from samtrt.unfinished import new_directory

_CLASSES = {
    "sam": "prompted.PromptedModel",
    "auto": "automatic.AutomaticModel",
    Stage.ENCODER: "stage.EncoderModel",
    Stage.DECODER: "stage.DecoderModel",
}


@dataclass(frozen=True)
class RepositoryOptions:
    """What a user may say about a repository.

    Attributes:
        name: Of the model that clients prompt; the others have it before their names.
        version: Of the model in the repository.
        platform: What runs encoder and decoder.
        backend: The runtime of samtrt that does, on the `python` platform.
        device: Where they run: "cpu", "cuda" for each GPU that Triton sees, or "cuda:N".
        threads: CPU threads within one operation; 0 leaves it to the runtime.
        scaling: Instances, batches and clients.
        cache_bytes: Embeddings that each instance of `sam` keeps.
        limits: What is refused.
    """

    name: str = "sam"
    version: int = 1
    platform: TritonPlatform = TritonPlatform.PYTHON
    backend: BackendName = BackendName.ONNXRUNTIME
    device: str = "cpu"
    threads: int = 0
    scaling: Scaling = field(default_factory=Scaling)
    cache_bytes: int = 1024 * MIB
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", self.name):
            raise OutputError(
                f"'{self.name}' is no name for a model: use letters, digits, '_', '-' and '.'"
            )
        if not 1 <= self.version < 2**31:
            raise OutputError(f"a version is a number from 1 on, not {self.version}")
        if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", self.device):
            raise OutputError(f"unknown device '{self.device}': use cpu, cuda or cuda:N")
        if self.platform is TritonPlatform.TENSORRT and self.device == "cpu":
            raise OutputError("TensorRT engines run on GPUs: use --device cuda")
        if self.backend is BackendName.PYTORCH:
            raise OutputError(
                "pytorch runs checkpoints, and a repository holds engines: use another --backend"
            )

    @property
    def runtime(self) -> BackendName | None:
        """The runtime of samtrt that runs the stages; None where Triton's own backends do."""
        return self.backend if self.platform is TritonPlatform.PYTHON else None

    @property
    def target(self) -> Target | None:
        """Of the engines that the repository holds; None where it holds graphs."""
        if self.platform is TritonPlatform.TENSORRT:
            return Target.TENSORRT
        runtime = self.runtime
        known = runtime is not None and runtime.value in [one.value for one in Target]
        return Target(runtime.value) if known and runtime else None

    def name_of(self, part: str) -> str:
        """Return the name of one of the models."""
        return self.name if part == "sam" else f"{self.name}_{part}"


def write_repository(
    directory: Path,
    repository: Path,
    options: RepositoryOptions | None = None,
    force: bool = False,
) -> list[Path]:
    """Write the models of a model directory into a repository, as one version of each.

    Args:
        directory: As written by `samtrt export`, with the engines of `samtrt build` where these
            are to run.
        repository: Where other models may be, too.
        options: Names, instances, limits.
        force: Whether models of these names are replaced that samtrt did not write.

    Returns:
        The directories of the version, in the order in which they were written.

    Raises:
        EngineError: where an engine is missing or is not of this model.
        ManifestError: where the directory is not one of `samtrt export`.
        OutputError: where a model of the name is not ours, or takes other tensors in another
            version; or the place cannot be written.
    """
    options = options or RepositoryOptions()
    manifest = Manifest.load(directory)
    models = list(_models(directory, manifest, options))
    for model in models:
        check_place(repository / model.name, model, options.version, force)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        # Beside it: what lies in it is taken for a model.
        with new_directory(repository.absolute().parent) as staging:
            for model in models:
                fill(staging / model.name, model)
            return [
                publish(staging / model.name, repository / model.name, model, options.version)
                for model in models
            ]
    except OSError as error:
        raise OutputError(f"cannot write {repository}: {error.strerror or error}") from None


def _models(
    directory: Path, manifest: Manifest, options: RepositoryOptions
) -> Iterator[RepositoryModel]:
    records: dict[Stage, EngineRecord] = {}
    if options.target:
        for stage in Stage:
            records[stage] = load_engine_record(directory, manifest, stage, options.target)
    settings = _settings(manifest, records, options)
    ours = {
        MANIFEST_NAME: (directory / MANIFEST_NAME).read_text(encoding="utf-8"),
        SETTINGS_NAME: settings.model_dump_json(indent=2) + "\n",
    }
    for stage in Stage:
        name, record = options.name_of(stage.value), records.get(stage)
        plain = options.platform is not TritonPlatform.PYTHON
        files = dict(_files(directory, manifest, stage, record, plain))
        config = stage_config(
            *(name, manifest, stage, options.platform, options.device, options.scaling),
            threads=options.threads,
            profiles=record.profiles if record else None,
            file_name=next(iter(files)) if plain else "",
        )
        texts = {} if plain else {**ours, "model.py": _code(stage)}
        yield RepositoryModel(name, config, files, texts)
    if options.scaling.auto_instances:
        name = options.name_of("auto")
        config = auto_config(name, manifest, options.scaling)
        yield RepositoryModel(name, config, {}, {**ours, "model.py": _code("auto")})
    config = sam_config(options.name, manifest, options.scaling)
    yield RepositoryModel(options.name, config, {}, {**ours, "model.py": _code("sam")})


def _settings(
    manifest: Manifest, records: dict[Stage, EngineRecord], options: RepositoryOptions
) -> Settings:
    encoder, decoder = records.get(Stage.ENCODER), records.get(Stage.DECODER)
    points = decoder.profiles["point_coords"].max if decoder else None
    precision = encoder.precision if encoder else manifest.precision
    return Settings(
        encoder=options.name_of(Stage.ENCODER.value),
        decoder=options.name_of(Stage.DECODER.value),
        platform=options.platform,
        backend=options.runtime,
        precision=Precision(precision).value,
        device=options.device,
        threads=options.threads,
        prompts_per_run=points[0] if points else None,
        most_points=points[1] if points else None,
        encoder_batch=batch_of(
            manifest, options.scaling.encoder_batch, encoder.profiles if encoder else None
        ),
        cache_bytes=options.cache_bytes,
        limits=options.limits,
        version=__version__,
    )


def _files(
    directory: Path, manifest: Manifest, stage: Stage, record: EngineRecord | None, plain: bool
) -> Iterator[tuple[str, Path]]:
    """Yield what a stage needs, by name; the file that is loaded first.

    Args:
        directory: Of the model.
        manifest: Of the model.
        stage: Which.
        record: Of its engine; None for its graph.
        plain: A backend of Triton's own loads that one file.
    """
    if record is not None:
        engine = engine_path(directory, stage, record.target)
        yield engine.name, engine
        sidecar = record_path(directory, stage, record.target)
        yield sidecar.name, sidecar
        if record.plugin:
            yield record.plugin.name, directory / record.plugin.name
        if plain:
            return
        for exact in find_exact(directory, stage, record.target):
            for place in (engine_path, record_path):
                path = place(directory, stage, record.target, exact)
                yield path.name, path
        return
    manifest.path_of(directory, stage)  # raises where they are not as exported
    for entry in manifest.files[stage]:
        yield entry.name, directory / entry.name


def _code(part: str | Stage) -> str:
    module, _, name = _CLASSES[part].rpartition(".")
    return (
        '"""Written by samtrt triton: what Triton\'s Python backend loads."""\n\n'
        "import triton_python_backend_utils  # first: it finds our packages\n\n"
        f"from samtrt.triton.{module} import {name} as TritonPythonModel\n\n"
        '__all__ = ["TritonPythonModel", "triton_python_backend_utils"]\n'
    )
