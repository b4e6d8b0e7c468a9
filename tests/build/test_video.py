"""Engines that follow objects: their profiles, and TensorRT-RTX, which compiles without a GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from samtrt.backends.base import stage_tensors
from samtrt.build import compile as compiling
from samtrt.build import engines
from samtrt.build.checks import check_objects, check_options
from samtrt.build.engines import build_engines
from samtrt.build.jobs import exact_job, exact_sizes, make_job, profiles, stages_to_build
from samtrt.build.options import BuildOptions, Range
from samtrt.choices import EVERY_STAGE, Precision, Stage, Target, VideoStage
from samtrt.errors import BuildError
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.api import assumed_api
from samtrt.tensorrt.engine_files import find_engines, find_exact, load_engine_record
from samtrt.tensorrt.gpu import Gpu
from samtrt.tensorrt.record import Exact
from support.rtx_cases import needs_rtx
from support.samples import make_video_manifest
from support.weak_tensorrt import weak_api

GPU = Gpu(0, "NVIDIA H100 80GB HBM3", "9.0", 85_000_000_000, "13.0")
TENSORRT, RTX = Target.TENSORRT, Target.TENSORRT_RTX
SHAPES = {
    VideoStage.MEMORY_ATTENTION: {
        "image_embeddings": ((1, 256, 16, 16),) * 3,
        "memories": ((1, 7, 64, 16, 16), (1, 7, 64, 16, 16), (8, 10, 64, 16, 16)),
        "has_pointer": ((1, 16), (1, 16), (8, 19)),
    },
    VideoStage.MEMORY_ENCODER: {"low_res_masks": ((1, 1, 64, 64), (1, 1, 64, 64), (8, 1, 64, 64))},
    VideoStage.VIDEO_DECODER: {"point_coords": ((1, 2, 2), (1, 2, 2), (8, 20, 2))},
}
"""Least, usual and most, of some inputs."""


@pytest.mark.parametrize("stage", VideoStage)
def test_profiles_hold_what_objects_may_remember(stage: VideoStage) -> None:
    manifest = make_video_manifest()
    found = profiles(manifest, stage, BuildOptions())
    for name, (least, usual, most) in SHAPES[stage].items():
        if least == most:
            assert name not in found, "its shape is fixed"
            continue
        assert (found[name].min, found[name].opt, found[name].max) == (least, usual, most)
    asked = {name: Range.parse("7:8:9", name) for name in ("objects", "memories")}
    changed = profiles(manifest, stage, BuildOptions(**asked, pointers=Range.parse("16", "")))
    rows = next(iter(changed.values()))
    assert (rows.min[0], rows.opt[0], rows.max[0]) == (7, 8, 9)


@pytest.mark.parametrize("stage", VideoStage)
def test_one_number_of_objects_has_engines_of_fixed_shapes(
    tmp_path: Path, stage: VideoStage
) -> None:
    manifest, options = make_video_manifest(), BuildOptions(exact_objects=(1, 8))
    assert exact_sizes(manifest, stage, options, TENSORRT) == (Exact(1, 7), Exact(8, 7))
    assert exact_sizes(manifest, stage, options, RTX) == ()
    api = assumed_api(TENSORRT)
    job = make_job(api, manifest, stage, tmp_path / "graph", tmp_path / "engine", options)
    one = exact_job(job, manifest, Exact(8, 7), tmp_path, options)
    assert one.output == tmp_path / "engine-8x7"
    for shapes in one.profiles.values():
        assert shapes.min == shapes.opt == shapes.max
        assert shapes.min[0] == 8
    assert {"memories", "points"} & {*one.profiles} or stage is not VideoStage.MEMORY_ATTENTION


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (TENSORRT, {"objects": "0:1:8"}, "--objects must begin at 1"),
        (TENSORRT, {"memories": "8:8:10"}, "--memories 8:8:10 does not include 7"),
        (TENSORRT, {"pointers": "4"}, "--pointers 4:4:4 does not include 16"),
        (TENSORRT, {"exact_objects": (9,)}, "--exact-objects 9 is not of --objects 1:1:8"),
        (RTX, {"exact_objects": (1,)}, "no --exact-objects"),
    ],
)
def test_refused(tmp_path: Path, target: Target, options: dict[str, object], message: str) -> None:
    asked = {
        name: Range.parse(value, name) if isinstance(value, str) else value
        for name, value in options.items()
    }
    with pytest.raises(BuildError, match=message):
        check_options(assumed_api(target), make_video_manifest(), BuildOptions(**asked), tmp_path)


def test_several_objects_are_refused_where_decoders_take_one_prompt() -> None:
    one = BuildOptions(objects=Range.only(1), exact_objects=(1,))
    with pytest.raises(BuildError, match=r"8\.6\.0 without --plugin .* say --objects 1, or take"):
        check_objects(weak_api(), EVERY_STAGE, BuildOptions())
    check_objects(weak_api(), EVERY_STAGE, one)
    check_objects(weak_api(), tuple(Stage), BuildOptions())
    check_objects(weak_api((10, 3, 0)), EVERY_STAGE, BuildOptions())


def test_stages_are_those_that_the_directory_has(manifest: Manifest, tmp_path: Path) -> None:
    assert stages_to_build(make_video_manifest(), tmp_path, None) == EVERY_STAGE
    assert stages_to_build(manifest, tmp_path, None) == tuple(Stage)
    assert stages_to_build(manifest, tmp_path, [Stage.DECODER]) == (Stage.DECODER,)
    with pytest.raises(BuildError, match=r"no graph of the memory encoder: .* again with --video"):
        stages_to_build(manifest, tmp_path, [VideoStage.MEMORY_ENCODER])


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory whose graphs hand on an input; TensorRT 8.6 builds in this process."""
    monkeypatch.setattr(engines, "load_api", lambda _: weak_api())
    monkeypatch.setattr(
        engines, "run_job", lambda job, _: compiling.compile_engine(weak_api(), job)
    )
    monkeypatch.setattr(compiling, "find_gpu", lambda: GPU)
    manifest = make_video_manifest(opset=17)
    files = dict(manifest.files)
    for stage in VideoStage:
        inputs, outputs = (
            [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, one.shape) for one in some]
            for some in stage_tensors(manifest, stage)
        )
        nodes = [helper.make_node("Identity", [inputs[0].name], [one.name]) for one in outputs]
        graph = helper.make_graph(nodes, stage.value, inputs, outputs)
        path = tmp_path / f"{stage.value}.onnx"
        onnx.save(helper.make_model(graph), path)
        files[stage] = (FileEntry.of(path),)
    manifest.model_copy(update={"files": files}).save(tmp_path)
    return tmp_path


def test_engines_for_numbers_of_objects_replace_earlier_ones(directory: Path) -> None:
    stage, two = VideoStage.MEMORY_ATTENTION, VideoStage.MEMORY_ENCODER
    options = BuildOptions(exact_objects=(1, 4), timing_cache=False)
    built = build_engines(directory, TENSORRT, options, [stage, two])
    sizes = [Exact(1, 7), Exact(4, 7)]
    assert [*built] == [stage, *((stage, one) for one in sizes), two, *((two, x) for x in sizes)]
    assert find_exact(directory, stage, TENSORRT) == sizes
    record, _ = built[stage, Exact(4, 7)]
    assert record.file.name == "memory_attention-4x7.tensorrt.engine"
    assert record.profiles["memories"].min == record.profiles["memories"].max
    assert (record.stage, record.exact) == (stage, Exact(4, 7))
    build_engines(directory, TENSORRT, options.model_copy(update={"exact_objects": ()}), [stage])
    assert find_exact(directory, stage, TENSORRT) == []
    assert find_exact(directory, two, TENSORRT) == sizes


@needs_rtx
@pytest.mark.parametrize("name", ["sam2.1_hiera_t", "edgetam_t"])
def test_rtx_builds_all_engines(
    name: str, family_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of a directory with graphs for videos, where nothing else is asked for."""
    directory = Path(shutil.copytree(family_model(name), tmp_path / "model"))
    options = BuildOptions(compute_capabilities=("8.9",))
    built = build_engines(directory, RTX, options)
    manifest = Manifest.load(directory)
    assert [*built] == [*EVERY_STAGE]
    for stage in VideoStage:
        record, facts = built[stage]
        assert record == load_engine_record(directory, manifest, stage, RTX)
        assert record.stage is stage
        inputs, outputs = stage_tensors(manifest, stage)
        assert [fact.name for fact in facts.inputs] == [info.name for info in inputs]
        assert [fact.name for fact in facts.outputs] == [info.name for info in outputs]
        assert {fact.dtype for fact in (*facts.inputs, *facts.outputs)} == {"float"}
        assert record.file.size > 1_000_000
    assert [stage for _, stage in find_engines(directory, manifest)] == [*EVERY_STAGE]


@needs_rtx
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_rtx_builds_half_precision(sam2_model: Path, tmp_path: Path, precision: Precision) -> None:
    directory = Path(shutil.copytree(sam2_model, tmp_path / "model"))
    options = BuildOptions(compute_capabilities=("8.9",))
    whole = build_engines(directory, RTX, options, [*VideoStage])
    options = options.model_copy(update={"precision": precision})
    half = build_engines(directory, RTX, options, [*VideoStage])
    for stage, (record, facts) in half.items():
        assert record.precision is precision
        assert {fact.dtype for fact in (*facts.inputs, *facts.outputs)} == {"float"}
        assert record.file.size < 0.8 * whole[stage][0].file.size, "weights of half the size"
