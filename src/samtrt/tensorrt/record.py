"""TensorRT engines in a model directory: their names, and the record that says what each is for.

One engine for each stage and target, `encoder.tensorrt.engine`, with `encoder.tensorrt.json`
beside it; and more of the decoder, each for one number of prompts and points alone and faster at
these, such as `decoder-64x2.tensorrt.engine`. An engine is compiled for one GPU, one library
version and one ONNX graph: loading it anywhere else must be a clear error before the library sees
it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samtrt.choices import HardwareCompatibility, Precision, Stage, Target
from samtrt.errors import EngineError
from samtrt.files import read_whole, sha256_of
from samtrt.manifest import FileEntry, Manifest
from samtrt.sealed import CHECKSUM, begins_as_json, check_json, sealed_json
from samtrt.tensorrt.gpu import Gpu

FORMAT = 2
"""2 has a checksum over all that it says."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Exact(NamedTuple):
    """The one number of prompts, and of points of each, that a decoder's engine takes."""

    prompts: int
    points: int

    def __str__(self) -> str:
        return f"{self.prompts}x{self.points}"

    @classmethod
    def parse(cls, text: str) -> Exact:
        """Read "64x2" and the like.

        Raises:
            ValueError: where it is not of that form, or is of no prompt.
        """
        found = re.fullmatch(r"([1-9]\d*)x(\d+)", text)
        if not found:
            raise ValueError(f"'{text}' is not a number of prompts and of points, such as 64x2")
        return cls(int(found[1]), int(found[2]))


class Profile(_Frozen):
    """The shapes of one input that an engine takes, and the one that it is fastest at."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class BuildFlags(_Frozen):
    """What else changes an engine.

    Attributes:
        strongly_typed: Types come from the graph, not from flags and per-layer constraints.
        optimization_level: 0 (fast build) to 5 (fast engine); None leaves it to the library.
        workspace: Bytes that a layer may use for itself; None leaves it to the library.
        hardware_compatible: Which other GPUs may run it; None for none.
        version_compatible: Later versions of the library may run it. The engine then holds code
            for the host, which the runtime runs only where `engine_host_code_allowed` is set.
    """

    strongly_typed: bool
    optimization_level: int | None = None
    workspace: int | None = None
    hardware_compatible: HardwareCompatibility | None = None
    version_compatible: bool = False


class EngineRecord(_Frozen):
    """The sidecar of one engine.

    Attributes:
        library_version: Of the TensorRT that built it.
        gpu: The one GPU model that it is for; None where any of the capabilities will do.
        compute_capabilities: What it runs on, such as ("8.6", "8.9"); "12.1+" includes later ones.
        precision: What the engine computes in; its borders are float32.
        tf32: Whether float32 products may round their factors to TF32.
        profiles: For every input, the shapes it takes.
        exact: What the engine takes where it is one of those for one size alone.
        onnx: sha256 of each file of the ONNX graph it was built from.
        file: The engine file.
        plugin: The library beside it that the engine's plugins come from; None where it has none.
        build_seconds: Wall time of the build.
        versions: Of samtrt and its tools.
    """

    format: int = FORMAT
    stage: Stage
    target: Target
    library_version: str
    gpu: str | None
    compute_capabilities: tuple[str, ...] = Field(min_length=1)
    precision: Precision
    tf32: bool
    profiles: dict[str, Profile]
    exact: Exact | None = None
    flags: BuildFlags
    onnx: dict[str, str]
    file: FileEntry
    plugin: FileEntry | None = None
    build_seconds: float
    versions: dict[str, str]

    def to_json(self) -> str:
        """Return the sidecar's text."""
        return sealed_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: bytes) -> EngineRecord:
        """Read a sidecar of this format or an older one.

        Raises:
            ValueError: where it is none, or was changed since it was written. A `ValidationError`
                is one, too.
        """
        data = json.loads(text)
        if isinstance(data, dict) and (CHECKSUM in data or data.get("format") != 1):
            data = check_json(data)
        return cls.model_validate(data)

    def check_runs_on(
        self, library_version: str, gpu: Gpu, directory: Path, lean: bool = False
    ) -> None:
        """Make sure that this library on this GPU is what the engine was built for.

        Args:
            library_version: Of the running library.
            gpu: The one to run on.
            directory: Where the engine lies.
            lean: Whether the library is a lean runtime.

        Raises:
            EngineError: where it is not; the message names both, and the command that rebuilds.
        """
        again = f"rebuild it here with: {build_command(directory, self.target)}"
        path = directory / self.file.name
        built, running = self.library_version, library_version
        newer = _numbers(running) > _numbers(built)
        if built != running and not (self.flags.version_compatible and newer):
            raise EngineError(
                f"{path} was built with {self.target.value} {built} and {running} is running; "
                f"{again}"
            )
        if lean and not self.flags.version_compatible:
            raise EngineError(
                f"{path} was built without --version-compatible, and the TensorRT {running} here "
                "is a lean runtime, which runs no other engines; build it again with that, or "
                "install the whole TensorRT"
            )
        here = f"{gpu.name} (compute capability {gpu.compute_capability})"
        if not self._fits(gpu):
            there = f"compute capability {', '.join(self.compute_capabilities)}"
            there = f"{self.gpu} ({there})" if self.gpu else there
            raise EngineError(f"{path} was built for {there} and this GPU is {here}; {again}")

    def _fits(self, gpu: Gpu) -> bool:
        here = _numbers(gpu.compute_capability)
        # TensorRT tunes for the very model: on another of the same capability an engine may be
        # slow or fail, so that other models count only where it was built for them.
        return self.gpu in (None, gpu.name) and any(
            here >= _numbers(built[:-1]) if built.endswith("+") else here == _numbers(built)
            for built in self.compute_capabilities
        )


def engine_path(directory: Path, stage: Stage, target: Target, exact: Exact | None = None) -> Path:
    """Return where a stage's engine lies, such as `DIR/encoder.tensorrt.engine`."""
    return directory / f"{_name(stage, exact)}.{target.value}.engine"


def record_path(directory: Path, stage: Stage, target: Target, exact: Exact | None = None) -> Path:
    """Return where an engine's sidecar lies, such as `DIR/encoder.tensorrt.json`."""
    return directory / f"{_name(stage, exact)}.{target.value}.json"


def _name(stage: Stage, exact: Exact | None) -> str:
    return f"{stage.value}-{exact}" if exact else stage.value


def find_exact(directory: Path, stage: Stage, target: Target) -> list[Exact]:
    """Return the sizes that a directory has engines of their own for, the least first."""
    found = set()
    for suffix in ("engine", "json"):
        for path in directory.glob(f"{stage.value}-*.{target.value}.{suffix}"):
            with suppress(ValueError):  # a file of somebody else
                found.add(Exact.parse(path.name.split(".")[0].removeprefix(f"{stage.value}-")))
    return sorted(found)


def is_engine_record(path: Path) -> bool:
    """Tell whether a sidecar begins as ours do, even if the rest is damaged; or is empty."""
    return begins_as_json(path, "format")


def build_command(directory: Path, target: Target) -> str:
    """Return the command that makes a directory's engines."""
    return f"samtrt build {directory} --target {target.value}"


def onnx_hashes(manifest: Manifest, stage: Stage) -> dict[str, str]:
    """Return the sha256 of each file of a stage's graph, as the manifest has them."""
    return {entry.name: entry.sha256 for entry in manifest.files.get(stage, ())}


def load_engine_record(
    directory: Path, manifest: Manifest, stage: Stage, target: Target, exact: Exact | None = None
) -> EngineRecord:
    """Read an engine's sidecar; check the engine file, its plugin library and the ONNX graph by it.

    Whether the engine suits the running library and GPU is `EngineRecord.check_runs_on`.

    Raises:
        EngineError: as `read_engine_record` and `read_engine`.
    """
    record = read_engine_record(directory, manifest, stage, target, exact)
    path = engine_path(directory, stage, target, exact)
    _check_file(path, "engine", record.file, build_command(directory, target))
    return record


def read_engine_record(
    directory: Path, manifest: Manifest, stage: Stage, target: Target, exact: Exact | None = None
) -> EngineRecord:
    """Do as `load_engine_record` but for the engine file, which `read_engine` checks.

    Raises:
        EngineError: where a file is missing, damaged, or made from another ONNX graph; the
            message has the command that builds the engine.
    """
    path = engine_path(directory, stage, target, exact)
    sidecar = record_path(directory, stage, target, exact)
    command = build_command(directory, target)
    try:
        record = EngineRecord.from_json(read_whole(sidecar))
    except FileNotFoundError:
        raise EngineError(
            f"{directory} has no {target.value} engine of the {stage.value}; build it with: "
            f"{command}"
        ) from None
    except OSError as error:
        raise EngineError(f"cannot read {sidecar}: {error.strerror}; check the file") from None
    except (ValueError, RecursionError) as error:
        raise EngineError(
            f"{sidecar} is not a valid engine record: {_first_fault(error)}; build again with: "
            f"{command}"
        ) from None
    described = record.stage, record.target, record.exact, record.file.name
    if described != (stage, target, exact, path.name):
        raise EngineError(
            f"{sidecar} describes the {record.target.value} engine of the {record.stage.value}, "
            f"{record.file.name}: files were renamed; build again with: {command}"
        )
    if record.onnx != onnx_hashes(manifest, stage):
        raise EngineError(
            f"{path} was built from another {stage.value}.onnx than the one in {directory}: the "
            f"model was exported again; rebuild the engine with: {command}"
        )
    if record.plugin:
        command += " --plugin FILE"
        _check_file(directory / record.plugin.name, "plugin library", record.plugin, command)
    return record


def _first_fault(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"the whole file: {error}"
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the whole file"
    return f"{where}: {first['msg']}"


def read_engine(directory: Path, record: EngineRecord) -> bytes:
    """Return an engine's bytes: those that were checked are those that are run.

    Raises:
        EngineError: where the file is missing or is not the one that its record describes.
    """
    path = directory / record.file.name
    command = build_command(directory, record.target)
    with _told(path, command):
        content = read_whole(path)
    _check_size(path, len(content), record.file, command)
    if hashlib.sha256(content).hexdigest() != record.file.sha256:
        raise _another(path, "engine", command)
    return content


def find_engines(
    directory: Path, manifest: Manifest
) -> dict[tuple[Target, Stage], EngineRecord | EngineError]:
    """Return the records of a directory's engines, or what is wrong with them. Needs no GPU."""
    found: dict[tuple[Target, Stage], EngineRecord | EngineError] = {}
    for target, stage in product(Target, Stage):
        if any(place(directory, stage, target).exists() for place in (engine_path, record_path)):
            try:
                found[target, stage] = load_engine_record(directory, manifest, stage, target)
            except EngineError as error:
                found[target, stage] = error
    return found


def _check_file(path: Path, what: str, entry: FileEntry, command: str) -> None:
    with _told(path, command):
        _check_size(path, path.stat().st_size, entry, command)
        if sha256_of(path) != entry.sha256:
            raise _another(path, what, command)


@contextmanager
def _told(path: Path, command: str) -> Iterator[None]:
    """Turn errors of the system into ours."""
    try:
        yield
    except FileNotFoundError:
        raise EngineError(f"{path} is missing; build it with: {command}") from None
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror}; check the file") from None


def _check_size(path: Path, size: int, entry: FileEntry, command: str) -> None:
    if size != entry.size:
        raise EngineError(
            f"{path} has {size} bytes and its record says {entry.size}: the file is truncated "
            f"or was replaced; build again with: {command}"
        )


def _another(path: Path, what: str, command: str) -> EngineError:
    return EngineError(
        f"{path} is not the {what} that its record describes (sha256 differs); build again with: "
        f"{command}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
