"""Real TensorRT-RTX engines, built with no GPU; and what becomes of a build that goes wrong."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from samtrt.backends.base import stage_tensors
from samtrt.build import engines
from samtrt.build.engines import build_engines
from samtrt.build.options import BuildOptions, Built, Failed, Progress, Range
from samtrt.choices import Precision, Stage, Target
from samtrt.errors import BuildError, MissingExtraError
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.record import EngineRecord, engine_path, load_engine_record
from support.rtx_cases import needs_rtx

pytestmark = needs_rtx
RTX = Target.TENSORRT_RTX
OPTIONS = BuildOptions(
    compute_capabilities=("8.9", "8.6"),
    prompts=Range(min=1, opt=2, max=33),
    points=Range(min=1, opt=3, max=7),
)
Results = dict[Stage, tuple[EngineRecord, Built]]


@pytest.fixture(scope="module")
def built(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Results, list[tuple[Stage, Progress]]]:
    """The tiny model's engines for two compute capabilities, with what was reported meanwhile."""
    directory = tmp_path_factory.mktemp("rtx") / "model"
    shutil.copytree(tiny_model, directory)
    told: list[tuple[Stage, Progress]] = []
    return directory, build_engines(directory, RTX, OPTIONS, report=lambda *p: told.append(p)), told


def replace_decoder(directory: Path, write: Callable[[Path], object]) -> None:
    """Put another decoder into a model directory, as if it had been exported so."""
    path = directory / "decoder.onnx"
    write(path)
    manifest = Manifest.load(directory)
    files = {**manifest.files, Stage.DECODER: (FileEntry.of(path),)}
    manifest.model_copy(update={"files": files}).save(directory)


def test_engines_of_both_stages_for_two_compute_capabilities(
    built: tuple[Path, Results, list[tuple[Stage, Progress]]],
) -> None:
    directory, results, _ = built
    manifest = Manifest.load(directory)
    for stage in Stage:
        record = load_engine_record(directory, manifest, stage, RTX)
        assert record == results[stage][0]
        assert record.compute_capabilities == ("8.6", "8.9")
        assert record.gpu is None
        assert record.library_version.startswith("1.7")
        assert (record.precision, record.tf32) == (Precision.FP32, False)
        assert record.flags.strongly_typed
        assert record.build_seconds > 0


def test_borders_are_those_of_the_design(
    built: tuple[Path, Results, list[tuple[Stage, Progress]]],
) -> None:
    """Names, dtypes and shapes, as the library's own network tells them."""
    directory, results, _ = built
    for stage in Stage:
        facts = results[stage][1]
        borders = stage_tensors(Manifest.load(directory), stage)
        for found, designed in zip((facts.inputs, facts.outputs), borders, strict=True):
            assert [(t.name, t.dtype, t.shape) for t in found] == [
                (
                    info.name,
                    "float",
                    tuple(-1 if isinstance(size, str) else size for size in info.shape),
                )
                for info in designed
            ]


def test_profiles_are_in_the_engine_file(
    built: tuple[Path, Results, list[tuple[Stage, Progress]]],
) -> None:
    """A runtime opens an engine on a GPU only, so the file itself is read.

    It holds names as text, and the dimensions of a profile as 64-bit integers.
    """
    directory, results, _ = built
    plan = engine_path(directory, Stage.DECODER, RTX).read_bytes()
    profiles = results[Stage.DECODER][0].profiles
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
        if len(set(profile.model_dump().values())) > 1 and len(profile.min) > 1:
            for shape in (profile.min, profile.opt, profile.max):
                assert struct.pack(f"<{len(shape)}q", *shape) in plan, (name, shape)
    assert struct.pack("<3q", 34, 7, 2) not in plan, "the search would find anything"
    for name in ("low_res_masks", "iou_predictions"):
        assert name.encode() in plan


def test_progress_goes_forward(
    built: tuple[Path, Results, list[tuple[Stage, Progress]]],
) -> None:
    _, _, told = built
    for stage in Stage:
        steps = [progress for s, progress in told if s is stage]
        assert steps[0].text == f"parsing {stage.value}.onnx"
        shares = [p.share for p in steps if p.share is not None]
        assert len(shares) > 10
        assert shares == sorted(shares)
        assert 0.5 < shares[-1] <= 1


def test_nothing_else_is_left_in_the_directory(
    built: tuple[Path, Results, list[tuple[Stage, Progress]]], tiny_model: Path
) -> None:
    directory, _, _ = built
    new = {p.name for p in directory.iterdir()} - {p.name for p in tiny_model.iterdir()}
    assert new == {
        ".tensorrt-rtx.lock",
        *(f"{stage.value}.tensorrt-rtx.{end}" for stage in Stage for end in ("engine", "json")),
    }


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_other_precision_than_exported(model: Path, precision: Precision) -> None:
    """A typed graph is made of the exported one, which stays as it is."""
    before = (model / "encoder.onnx").read_bytes()
    options = BuildOptions(precision=precision, compute_capabilities=("8.6",))
    record, facts = build_engines(model, RTX, options, [Stage.ENCODER])[Stage.ENCODER]
    assert record.precision is precision
    assert {t.dtype for t in (*facts.inputs, *facts.outputs)} == {"float"}
    assert (model / "encoder.onnx").read_bytes() == before
    assert load_engine_record(model, Manifest.load(model), Stage.ENCODER, RTX) == record
    plain = build_engines(model, RTX, BuildOptions(), [Stage.ENCODER])[Stage.ENCODER][0]
    assert plain.precision is Precision.FP32
    assert plain.file.size > record.file.size, "weights of half the size make a smaller engine"
    assert plain.compute_capabilities[-1] == "12.1+"


def test_node_that_cannot_be_parsed_is_named(model: Path) -> None:
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
        build_engines(model, RTX, stages=[Stage.DECODER])
    message = str(caught.value)
    assert message.startswith("TensorRT-RTX 1.7")
    assert f"cannot parse {model / 'decoder.onnx'}: node the_bad_node (Frobnicate): " in message
    assert "Plugin not found" in message, "the parser's own words"
    assert "\n" not in message
    assert not list(model.glob("*.engine"))


def test_file_that_is_no_graph(model: Path) -> None:
    replace_decoder(model, lambda path: path.write_bytes(b"not a graph at all" * 50))
    with pytest.raises(BuildError, match=r"cannot parse .*decoder\.onnx: "):
        build_engines(model, RTX, stages=[Stage.DECODER])


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
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, words: str
) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{end}\n")
    script.chmod(0o755)
    monkeypatch.setattr(engines.sys, "executable", str(script))
    with pytest.raises(BuildError, match=f"the process that built the encoder .* {words}"):
        build_engines(model, RTX)
    assert not list(model.glob(".build-*"))


def test_builder_without_a_package_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of `find_gpu`, which only the building process calls."""
    failed = Failed.of(MissingExtraError("Using a GPU", "tensorrt", "cuda-bindings"))
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nread job; echo '{failed.model_dump_json()}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(engines.sys, "executable", str(script))
    with pytest.raises(MissingExtraError, match=r"'cuda-bindings'.* 'samtrt\[tensorrt\]'"):
        build_engines(model, RTX)


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
    environment = engines._environment(device)
    assert environment["CUDA_VISIBLE_DEVICES"] == chosen
    assert environment["PATH"] == os.environ["PATH"]
