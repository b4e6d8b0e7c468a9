"""TensorRT engines in a model directory: their names, and whether they are what was built.

One engine for each stage and target, `encoder.tensorrt.engine`, with `encoder.tensorrt.json`
beside it; and more of the decoder, each for one number of prompts and points alone and faster at
these, such as `decoder-64x2.tensorrt.engine`; and of those for videos, for one number of objects
and memories, such as `memory_attention-1x7.tensorrt.engine`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

from pydantic import ValidationError

from samtrt.choices import EVERY_STAGE, AnyStage, Target
from samtrt.errors import EngineError
from samtrt.files import read_whole, sha256_of
from samtrt.manifest import FileEntry, Manifest
from samtrt.sealed import begins_as_json
from samtrt.tensorrt.record import EngineRecord, Exact, build_command


def engine_path(
    directory: Path, stage: AnyStage, target: Target, exact: Exact | None = None
) -> Path:
    """Return where a stage's engine lies, such as `DIR/encoder.tensorrt.engine`."""
    return directory / f"{_name(stage, exact)}.{target.value}.engine"


def record_path(
    directory: Path, stage: AnyStage, target: Target, exact: Exact | None = None
) -> Path:
    """Return where an engine's sidecar lies, such as `DIR/encoder.tensorrt.json`."""
    return directory / f"{_name(stage, exact)}.{target.value}.json"


def _name(stage: AnyStage, exact: Exact | None) -> str:
    return f"{stage.value}-{exact}" if exact else stage.value


def find_exact(directory: Path, stage: AnyStage, target: Target) -> list[Exact]:
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


def onnx_hashes(manifest: Manifest, stage: AnyStage) -> dict[str, str]:
    """Return the sha256 of each file of a stage's graph, as the manifest has them."""
    return {entry.name: entry.sha256 for entry in manifest.files.get(stage, ())}


def load_engine_record(
    directory: Path, manifest: Manifest, stage: AnyStage, target: Target, exact: Exact | None = None
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
    directory: Path, manifest: Manifest, stage: AnyStage, target: Target, exact: Exact | None = None
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
) -> dict[tuple[Target, AnyStage], EngineRecord | EngineError]:
    """Return the records of a directory's engines, or what is wrong with them. Needs no GPU."""
    found: dict[tuple[Target, AnyStage], EngineRecord | EngineError] = {}
    for target, stage in product(Target, EVERY_STAGE):
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
