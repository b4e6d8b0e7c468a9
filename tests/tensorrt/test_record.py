"""Engine records: what they refuse, and what they let through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.choices import HardwareCompatibility, Precision, Stage, Target
from samtrt.errors import EngineError
from samtrt.manifest import FileEntry, Manifest
from samtrt.sealed import check_json
from samtrt.tensorrt.engine_files import (
    engine_path,
    find_engines,
    load_engine_record,
    onnx_hashes,
    read_engine,
    record_path,
)
from samtrt.tensorrt.gpu import Gpu
from samtrt.tensorrt.record import BuildFlags, EngineRecord, Profile
from support.samples import edit_sealed, make_manifest

H100 = Gpu(0, "NVIDIA H100 80GB HBM3", "9.0", 85_000_000_000, "13.0")
GRAPH = FileEntry(name="decoder.onnx", size=1, sha256="1" * 64)
MANIFEST = make_manifest(files={Stage.DECODER: [GRAPH]})
STAGE, TARGET = Stage.DECODER, Target.TENSORRT
COMMAND = "samtrt build {directory} --target tensorrt"


def make_record(**changes: object) -> EngineRecord:
    values: dict[str, object] = {
        "stage": STAGE,
        "target": TARGET,
        "library_version": "10.3.0",
        "gpu": H100.name,
        "compute_capabilities": ("9.0",),
        "precision": Precision.FP16,
        "tf32": False,
        "profiles": {"point_labels": Profile(min=(1, 1), opt=(1, 5), max=(64, 20))},
        "flags": BuildFlags(strongly_typed=True),
        "onnx": onnx_hashes(MANIFEST, STAGE),
        "file": FileEntry(name="decoder.tensorrt.engine", size=0, sha256="0" * 64),
        "build_seconds": 1.5,
        "versions": {"samtrt": "test"},
    }
    return EngineRecord.model_validate({**values, **changes})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with an engine of the decoder and its record."""
    path = engine_path(tmp_path, STAGE, TARGET)
    path.write_bytes(bytes(range(256)) * 8)
    record = make_record(file=FileEntry.of(path))
    record_path(tmp_path, STAGE, TARGET).write_text(record.to_json())
    return tmp_path


def load(directory: Path, manifest: Manifest = MANIFEST) -> EngineRecord:
    return load_engine_record(directory, manifest, STAGE, TARGET)


def test_whole_engine(directory: Path) -> None:
    assert [p.name for p in sorted(directory.iterdir())] == [
        "decoder.tensorrt.engine",
        "decoder.tensorrt.json",
    ]
    record = load(directory)
    assert record.profiles["point_labels"].max == (64, 20)
    record.check_runs_on("10.3.0", H100, directory)


def test_engines_of_a_directory(directory: Path) -> None:
    found = find_engines(directory, MANIFEST)
    assert found == {(TARGET, STAGE): load(directory)}
    damaged = engine_path(directory, STAGE, Target.TENSORRT_RTX)
    damaged.write_bytes(b"engine")
    record_path(directory, Stage.ENCODER, TARGET).write_text("{}")
    found = find_engines(directory, MANIFEST)
    assert found.keys() == {
        (TARGET, Stage.ENCODER),
        (TARGET, STAGE),
        (Target.TENSORRT_RTX, STAGE),
    }
    assert "is not a valid engine record" in str(found[TARGET, Stage.ENCODER])
    assert "has no tensorrt-rtx engine of the decoder" in str(found[Target.TENSORRT_RTX, STAGE])
    assert find_engines(directory / "none", MANIFEST) == {}


def test_never_built(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no tensorrt engine of the decoder; build it with"):
        load(tmp_path)


# Each fault that a directory can have, with what the message must say.
FAULTS = {
    "engine missing": "is missing; build it with",
    "engine truncated": "has 1000 bytes and its record says 2048: the file is truncated",
    "engine changed": "is not the engine that its record describes (sha256 differs)",
    "engine unreadable": "cannot read",
    "record truncated": "is not a valid engine record: the whole file",
    "record with a wrong value": "is not a valid engine record: precision",
    "record with an unknown key": "is not a valid engine record: surprise",
    "record with another digit": "is not a valid engine record: the whole file: its checksum is of",
    "record of another stage": "describes the tensorrt engine of the encoder",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(directory: Path, fault: str) -> None:
    engine, sidecar = engine_path(directory, STAGE, TARGET), record_path(directory, STAGE, TARGET)
    values = json.loads(sidecar.read_text())
    match fault:
        case "engine missing":
            engine.unlink()
        case "engine truncated":
            engine.write_bytes(engine.read_bytes()[:1000])
        case "engine changed":
            engine.write_bytes(b"\1" + engine.read_bytes()[1:])
        case "engine unreadable":
            engine.unlink()
            engine.mkdir()
            edit_sealed(sidecar, file={**values["file"], "size": engine.stat().st_size})
        case "record truncated":
            sidecar.write_text(sidecar.read_text()[:100])
        case "record with a wrong value":
            edit_sealed(sidecar, precision="fp7")
        case "record with an unknown key":
            edit_sealed(sidecar, surprise=1)
        case "record with another digit":
            text = sidecar.read_text()
            assert '"build_seconds": ' in text
            sidecar.write_text(text.replace('"build_seconds": ', '"build_seconds": 1'))
        case "record of another stage":
            shutil.copy(sidecar, record_path(directory, Stage.ENCODER, TARGET))
            edit_sealed(sidecar, stage="encoder")
    with pytest.raises(EngineError) as caught:
        load(directory)
    message = str(caught.value)
    assert FAULTS[fault] in message
    assert "\n" not in message
    if fault != "engine unreadable":
        assert COMMAND.format(directory=directory) in message


PLUGIN_FAULTS = {
    "missing": "samtrt_plugin.so is missing; build it with",
    "truncated": "samtrt_plugin.so has 3 bytes and its record says 7: the file is truncated",
    "changed": "samtrt_plugin.so is not the plugin library that its record describes",
}


@pytest.mark.parametrize("fault", [None, *PLUGIN_FAULTS])
def test_plugin_library(directory: Path, fault: str | None) -> None:
    library = directory / "samtrt_plugin.so"
    library.write_bytes(b"library")
    sidecar = record_path(directory, STAGE, TARGET)
    assert load(directory).plugin is None
    edit_sealed(sidecar, plugin=FileEntry.of(library).model_dump())
    match fault:
        case None:
            assert load(directory).plugin == FileEntry.of(library)
            return
        case "missing":
            library.unlink()
        case "truncated":
            library.write_bytes(b"lib")
        case "changed":
            library.write_bytes(b"LIBRARY")
    with pytest.raises(EngineError) as caught:
        load(directory)
    assert PLUGIN_FAULTS[fault] in str(caught.value)
    assert f"{COMMAND.format(directory=directory)} --plugin FILE" in str(caught.value)


def test_record_of_before_there_were_plugins(directory: Path) -> None:
    sidecar = record_path(directory, STAGE, TARGET)
    edit_sealed(sidecar, without=("plugin",))
    assert load(directory).plugin is None


def test_a_record_of_before_it_had_a_checksum(directory: Path) -> None:
    sidecar = record_path(directory, STAGE, TARGET)
    record = load(directory)
    said = {**check_json(json.loads(sidecar.read_text())), "format": 1}
    sidecar.write_text(json.dumps(said))
    assert load(directory) == record.model_copy(update={"format": 1})
    sidecar.write_text(json.dumps({**said, "format": 2}))
    with pytest.raises(EngineError, match="its checksum is of other contents"):
        load(directory)


def test_the_engine_that_is_run_is_the_one_that_was_checked(directory: Path) -> None:
    record = load(directory)
    path = engine_path(directory, STAGE, TARGET)
    content = path.read_bytes()
    assert read_engine(directory, record) == content
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])  # between the check and the use
    with pytest.raises(EngineError, match="is not the engine that its record describes"):
        read_engine(directory, record)


def test_model_exported_again(directory: Path) -> None:
    changed = make_manifest(files={STAGE: [GRAPH.model_copy(update={"sha256": "2" * 64})]})
    with pytest.raises(EngineError, match=r"built from another decoder\.onnx than the one in"):
        load(directory, changed)
    # Weights beside the graph count as well.
    more = make_manifest(files={STAGE: [GRAPH, GRAPH.model_copy(update={"name": "more.data"})]})
    with pytest.raises(EngineError, match="the model was exported again"):
        load(directory, more)


def runs(record: EngineRecord, version: str = "10.3.0", gpu: Gpu = H100) -> bool:
    """Tell whether an engine is let through; where not, check the message."""
    refused = None
    try:
        record.check_runs_on(version, gpu, Path("model"))
    except EngineError as error:
        refused = str(error)
    if refused is None:
        return True
    # Both are named, and so is the way out.
    assert "; rebuild it here with: samtrt build model --target tensorrt" in refused
    assert version in refused or gpu.name in refused
    assert record.library_version in refused or record.compute_capabilities[0] in refused
    return False


def test_decoders_of_tensorrt_8_that_give_wrong_masks() -> None:
    """In standard operators, for several prompts at once; earlier versions built them."""

    def passes(version: str, prompts: int, **changes: object) -> bool:
        rows = Profile(min=(1,), opt=(1,), max=(prompts,))
        profiles = {"has_mask_input": rows}
        return runs(make_record(library_version=version, profiles=profiles, **changes), version)

    plugin = FileEntry(name="samtrt_plugin.so", size=1, sha256="3" * 64)
    assert not passes("8.6.0", 64)
    assert passes("8.6.0", 1)
    assert passes("8.6.0", 64, plugin=plugin)
    assert passes("10.3.0", 64)


def test_other_version() -> None:
    record = make_record()
    assert runs(record)
    assert not runs(record, "10.3.1")
    assert not runs(record, "11.0.0")
    portable = make_record(flags=BuildFlags(strongly_typed=True, version_compatible=True))
    assert runs(portable, "10.4.0")
    assert not runs(portable, "10.2.9"), "an older library knows nothing of a newer engine"


def test_other_gpu() -> None:
    sibling = Gpu(0, "NVIDIA H200", "9.0", 1, "13.0")
    ada = Gpu(0, "NVIDIA L4", "8.9", 1, "13.0")
    record = make_record()
    assert not runs(record, gpu=sibling)
    assert not runs(record, gpu=ada)
    flags = BuildFlags(
        strongly_typed=True, hardware_compatible=HardwareCompatibility.SAME_CAPABILITY
    )
    assert runs(make_record(gpu=None, flags=flags), gpu=sibling)
    assert not runs(make_record(gpu=None, flags=flags), gpu=ada)
    ampere_plus = make_record(gpu=None, compute_capabilities=("8.0+",))
    assert runs(ampere_plus, gpu=ada)
    assert not runs(ampere_plus, gpu=Gpu(0, "Tesla T4", "7.5", 1, "13.0"))


@given(
    st.lists(st.sampled_from(["7.5", "8.0", "8.6", "8.9", "9.0", "12.0", "12.1"]), min_size=1),
    st.booleans(),
)
def test_listed_capabilities_run_and_no_others(listed: list[str], later: bool) -> None:
    newest = max(listed, key=float)
    marked = [c + "+" if later and c == newest else c for c in listed]
    record = make_record(gpu=None, compute_capabilities=tuple(marked))
    for capability in ("7.5", "8.0", "8.6", "8.9", "9.0", "12.0", "12.1", "13.0"):
        expected = capability in listed or (later and float(capability) > float(newest))
        assert runs(record, gpu=Gpu(0, "some GPU", capability, 1, "13.0")) == expected
