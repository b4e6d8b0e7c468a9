"""Real engines: TensorRT-RTX's, which need no GPU, and on one TensorRT's; builds that go wrong."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from samtrt.backends.base import stage_tensors
from samtrt.build import process
from samtrt.build.engines import build_engines
from samtrt.build.options import BuildOptions, Built, Failed, Progress, Range
from samtrt.choices import Precision, Stage, Target
from samtrt.errors import BuildError, MissingExtraError
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.api import load_api
from samtrt.tensorrt.engine_files import engine_path, load_engine_record
from samtrt.tensorrt.gpu import find_gpu
from samtrt.tensorrt.record import EngineRecord
from support.contract_cases import for_tensorrt
from support.rtx_cases import needs_rtx

RTX, TENSORRT = Target.TENSORRT_RTX, Target.TENSORRT
OPTIONS = BuildOptions(prompts=Range(min=1, opt=2, max=33), points=Range(min=1, opt=3, max=7))
OF_TARGET = {
    RTX: {"compute_capabilities": ("8.9", "8.6")},
    TENSORRT: {"optimization_level": 0},  # soon done
}


@dataclass(frozen=True)
class Engines:
    """The tiny model's, with what was reported while they were built."""

    directory: Path
    target: Target
    results: dict[Stage, tuple[EngineRecord, Built]]
    told: list[tuple[Stage, Progress]]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(RTX, marks=needs_rtx, id=RTX.value),
        pytest.param(TENSORRT, marks=pytest.mark.gpu, id=TENSORRT.value),
    ],
)
def target(request: pytest.FixtureRequest) -> Target:
    if request.param is TENSORRT:
        pytest.importorskip("tensorrt", reason="needs TensorRT")
    return Target(request.param)


@pytest.fixture(scope="module")
def parsed(target: Target, exported: Callable[..., Path]) -> Path:
    """An export that the library parses."""
    return for_tensorrt(exported) if target is TENSORRT else exported()


@pytest.fixture
def model(parsed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parsed, tmp_path / "model"))


@pytest.fixture(scope="module")
def built(parsed: Path, target: Target, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    directory = tmp_path_factory.mktemp("built") / "model"
    shutil.copytree(parsed, directory)
    told: list[tuple[Stage, Progress]] = []
    options = OPTIONS.model_copy(update=OF_TARGET[target])
    results = build_engines(directory, target, options, report=lambda *p: told.append(p))
    return Engines(directory, target, results, told)


def replace_decoder(directory: Path, write: Callable[[Path], object]) -> None:
    """Put another decoder into a model directory, as if it had been exported so."""
    path = directory / "decoder.onnx"
    write(path)
    manifest = Manifest.load(directory)
    files = {**manifest.files, Stage.DECODER: (FileEntry.of(path),)}
    manifest.model_copy(update={"files": files}).save(directory)


def test_records_of_both_stages(built: Engines) -> None:
    """For two compute capabilities, or for the GPU at hand."""
    api, manifest = load_api(built.target), Manifest.load(built.directory)
    for stage in Stage:
        record = load_engine_record(built.directory, manifest, stage, built.target)
        assert record == built.results[stage][0]
        if built.target is RTX:
            assert record.compute_capabilities == ("8.6", "8.9")
            assert record.gpu is None
            assert record.library_version.startswith("1.7")
        else:
            gpu = find_gpu()
            assert record.compute_capabilities == (gpu.compute_capability,)
            assert (record.gpu, record.library_version) == (gpu.name, api.version_text)
        assert (record.precision, record.tf32) == (Precision.FP32, False)
        assert record.flags.strongly_typed == api.is_strongly_typed
        assert record.build_seconds > 0


def test_borders_are_those_of_the_design(built: Engines) -> None:
    """Names, dtypes and shapes, as the library's own network tells them."""
    for stage in Stage:
        facts = built.results[stage][1]
        borders = stage_tensors(Manifest.load(built.directory), stage)
        for found, designed in zip((facts.inputs, facts.outputs), borders, strict=True):
            assert [(t.name, t.dtype, t.shape) for t in found] == [
                (
                    info.name,
                    "float",
                    tuple(-1 if isinstance(size, str) else size for size in info.shape),
                )
                for info in designed
            ]


def test_profiles_are_in_the_engine_file(built: Engines) -> None:
    """A runtime opens an engine on a GPU only, so the file itself is read.

    It holds names as text, and TensorRT-RTX's the dimensions of a profile as 64-bit integers.
    """
    plan = engine_path(built.directory, Stage.DECODER, built.target).read_bytes()
    profiles = built.results[Stage.DECODER][0].profiles
    assert profiles["point_coords"].model_dump() == {
        "min": (1, 1, 2),
        "opt": (2, 3, 2),
        "max": (33, 7, 2),
    }
    assert profiles["has_mask_input"].max == (33,)
    assert profiles["mask_input"].max == (33, 1, 64, 64)
    assert profiles["image_embeddings"].min == profiles["image_embeddings"].max == (1, 256, 16, 16)
    for name, profile in profiles.items():
        assert name.encode() in plan
        differs = len(set(profile.model_dump().values())) > 1 and len(profile.min) > 1
        if differs and built.target is RTX:
            for shape in (profile.min, profile.opt, profile.max):
                assert struct.pack(f"<{len(shape)}q", *shape) in plan, (name, shape)
    assert struct.pack("<3q", 34, 7, 2) not in plan, "the search would find anything"
    for name in ("low_res_masks", "iou_predictions"):
        assert name.encode() in plan


def test_progress_goes_forward(built: Engines) -> None:
    for stage in Stage:
        steps = [progress for s, progress in built.told if s is stage]
        assert steps[0].text == f"parsing {stage.value}.onnx"
        if not load_api(built.target).has_progress_monitor:
            continue
        shares = [p.share for p in steps if p.share is not None]
        assert len(shares) > 10
        assert shares == sorted(shares)
        assert 0.5 < shares[-1] <= 1


def test_nothing_else_is_left_in_the_directory(built: Engines, parsed: Path) -> None:
    name = built.target.value
    new = {p.name for p in built.directory.iterdir()} - {p.name for p in parsed.iterdir()}
    assert new == {
        f".{name}.lock",
        *(f"{stage.value}.{name}.{end}" for stage in Stage for end in ("engine", "json")),
    }


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_other_precision_than_exported(model: Path, target: Target, precision: Precision) -> None:
    """A typed graph is made of the exported one, which stays as it is."""
    api, before = load_api(target), (model / "encoder.onnx").read_bytes()
    if not api.is_strongly_typed and not api.has_flag(precision.name):
        pytest.skip(f"{api.product} has no {precision.value}, see test_checks.py")
    own = {"compute_capabilities": ("8.6",)} if target is RTX else OF_TARGET[target]
    options = BuildOptions(precision=precision, **own)
    record, facts = build_engines(model, target, options, [Stage.ENCODER])[Stage.ENCODER]
    assert record.precision is precision
    assert {t.dtype for t in (*facts.inputs, *facts.outputs)} == {"float"}
    if not api.is_strongly_typed:
        graph = onnx.load(model / "encoder.onnx").graph
        norms = {node.name for node in graph.node if node.op_type == "LayerNormalization"}
        assert norms <= set(facts.float32_layers)
    assert (model / "encoder.onnx").read_bytes() == before
    assert load_engine_record(model, Manifest.load(model), Stage.ENCODER, target) == record
    options = BuildOptions() if target is RTX else BuildOptions(**OF_TARGET[target])
    plain = build_engines(model, target, options, [Stage.ENCODER])[Stage.ENCODER][0]
    assert plain.precision is Precision.FP32
    assert plain.file.size > record.file.size, "weights of half the size make a smaller engine"
    if target is RTX:
        assert plain.compute_capabilities[-1] == "12.1+"


def test_node_that_cannot_be_parsed_is_named(model: Path, target: Target) -> None:
    def unknown_operator(path: Path) -> None:
        f32 = TensorProto.FLOAT
        graph = helper.make_graph(
            [
                helper.make_node("Relu", ["x"], ["r"], "fine"),
                helper.make_node("Frobnicate", ["r"], ["y"], "the_bad_node", domain="somewhere"),
            ],
            "g",
            [helper.make_tensor_value_info("x", f32, [1])],
            [helper.make_tensor_value_info("y", f32, [1])],
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("somewhere", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), path)

    replace_decoder(model, unknown_operator)
    with pytest.raises(BuildError) as caught:
        build_engines(model, target, stages=[Stage.DECODER])
    message = str(caught.value)
    assert message.startswith(load_api(target).product)
    assert f"cannot parse {model / 'decoder.onnx'}: node " in message
    if target is RTX:  # TensorRT 8.6 knows its number alone
        assert "node the_bad_node (Frobnicate): " in message
        assert "Plugin not found" in message, "the parser's own words"
    assert "\n" not in message
    assert not list(model.glob("*.engine"))


def test_file_that_is_no_graph(model: Path, target: Target) -> None:
    replace_decoder(model, lambda path: path.write_bytes(b"not a graph at all" * 50))
    with pytest.raises(BuildError, match=r"cannot parse .*decoder\.onnx: "):
        build_engines(model, target, stages=[Stage.DECODER])


@pytest.mark.parametrize("target", [pytest.param(RTX, marks=needs_rtx)], indirect=True)
def test_out_of_memory_says_what_to_do(model: Path) -> None:
    """The library's own error: it is allowed next to no workspace."""
    with pytest.raises(BuildError, match=r"cannot build the decoder: out of memory; .*--workspace"):
        build_engines(model, RTX, BuildOptions(workspace=1), [Stage.DECODER])
    assert not list(model.glob("*.engine"))
    assert not list(model.glob(".build-*"))


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("echo 'illegal memory access' >&2; kill -SEGV $$", r"crashed \(SIGSEGV\): illegal memory"),
        ("kill -KILL $$", "was killed, by the system perhaps for want of memory"),
        ("exit 3", "ended with exit code 3"),
        ("read job; echo No module named numpy >&2; exit 1", "exit code 1: No module named numpy"),
    ],
)
def test_builder_that_dies_is_an_error_here(
    model: Path,
    target: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
    words: str,
) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{end}\n")
    script.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(script))
    with pytest.raises(BuildError, match=f"the process that built the encoder .* {words}"):
        build_engines(model, target)
    assert not list(model.glob(".build-*"))


def test_builder_without_a_package_says_what_to_install(
    model: Path, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of `find_gpu`, which only the building process calls."""
    failed = Failed.of(MissingExtraError("Using a GPU", "tensorrt", "cuda-bindings"))
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nread job; echo '{failed.model_dump_json()}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(script))
    with pytest.raises(MissingExtraError, match=r"'cuda-bindings'.* 'samtrt\[tensorrt\]'"):
        build_engines(model, target)


@pytest.mark.parametrize(
    ("visible", "device", "chosen"),
    [
        (None, 0, "0"),
        (None, 2, "2"),
        ("3,5", 1, "5"),
        ("GPU-af,GPU-be", 0, "GPU-af"),
        ("3,5", 2, "-1"),
        ("", 0, ""),
    ],
)
def test_builder_sees_the_gpu_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: int, chosen: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    environment = process.environment_for(device)
    assert environment["CUDA_VISIBLE_DEVICES"] == chosen
    assert environment["PATH"] == os.environ["PATH"]
