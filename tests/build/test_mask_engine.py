"""TensorRT 8.6 without the plugin: prompts that are a mask alone have an engine of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from samtrt.build import compile as compiling
from samtrt.build import engines
from samtrt.build.checks import default_points, takes_one_prompt
from samtrt.build.engines import build_engines
from samtrt.build.options import BuildOptions, Built, Job, Range
from samtrt.choices import Precision, Stage, Target
from samtrt.errors import BuildError
from samtrt.manifest import Manifest
from samtrt.tensorrt.engine_files import find_exact
from samtrt.tensorrt.gpu import Gpu
from samtrt.tensorrt.record import Exact
from support.weak_tensorrt import weak_api

GPU = Gpu(0, "NVIDIA H100 80GB HBM3", "9.0", 85_000_000_000, "13.0")
OPTIONS = BuildOptions(
    precision=Precision.FP16,
    timing_cache=False,
    points=Range(min=1, opt=5, max=20),
    exact=(Exact(1, 2),),
)


@pytest.fixture
def directory(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model, where TensorRT 8.6 builds in this process."""
    monkeypatch.setattr(engines, "load_api", lambda _: weak_api())
    monkeypatch.setattr(engines, "run_job", run)
    monkeypatch.setattr(compiling, "find_gpu", lambda: GPU)
    directory = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    Manifest.load(directory).model_copy(update={"opset": 17}).save(directory)  # which 8.6 parses
    return directory


def run(job: Job, _report: object) -> Built:
    return compiling.compile_engine(weak_api(), job)


def test_it_is_built_last(directory: Path) -> None:
    built = build_engines(directory, Target.TENSORRT, OPTIONS, [Stage.DECODER])
    assert list(built) == [
        Stage.DECODER,
        (Stage.DECODER, Exact(1, 2)),
        (Stage.DECODER, Exact(1, 0)),
    ]
    record, _ = built[Stage.DECODER, Exact(1, 0)]
    assert record.exact == Exact(1, 0)
    assert not {"point_coords", "point_labels"} & record.profiles.keys()
    assert find_exact(directory, Stage.DECODER, Target.TENSORRT) == [Exact(1, 0), Exact(1, 2)]


def test_what_is_for_all_sizes_is_built_at_level_0(directory: Path) -> None:
    """8.6 finds no implementation for tokens in any number but there."""
    built = build_engines(directory, Target.TENSORRT, OPTIONS)
    levels = {engine: record.flags.optimization_level for engine, (record, _) in built.items()}
    assert levels == {
        Stage.ENCODER: None,
        Stage.DECODER: 0,
        (Stage.DECODER, Exact(1, 2)): None,
        (Stage.DECODER, Exact(1, 0)): None,
    }
    _, decoder = built[Stage.DECODER]
    assert "takes one prompt at a time" in " ".join(decoder.warnings)
    assert "at optimization level 0" in " ".join(decoder.warnings)


def test_decoders_take_one_prompt_at_a_time(directory: Path) -> None:
    """8.6 is wrong for several."""
    built = build_engines(directory, Target.TENSORRT, OPTIONS, [Stage.DECODER])
    prompts = {record.profiles["has_mask_input"].max[0] for record, _ in built.values()}
    assert prompts == {1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"exact": (Exact(1, 2), Exact(16, 2))}, "--exact 16x2 say --exact 1x2"),
        ({"prompts": Range(min=4, opt=8, max=64), "exact": ()}, "--prompts 4:8:64 say --prompts 1"),
    ],
)
def test_several_prompts_at_once_are_refused(
    directory: Path, options: dict[str, object], told: str
) -> None:
    many = OPTIONS.model_copy(update=options)
    with pytest.raises(BuildError, match=f"wrong masks for several .* instead of {told}"):
        build_engines(directory, Target.TENSORRT, many, [Stage.DECODER])


def test_a_level_that_was_asked_for_is_kept(directory: Path) -> None:
    options = OPTIONS.model_copy(update={"optimization_level": 2})
    built = build_engines(directory, Target.TENSORRT, options, [Stage.DECODER])
    assert {record.flags.optimization_level for record, _ in built.values()} == {2}
    assert "at optimization level 2" in " ".join(built[Stage.DECODER][1].warnings)


def test_what_needs_one() -> None:
    """Standard operators on tokens: all without the plugin."""
    old, new = weak_api(), weak_api((10, 0))
    plugin = Path("samtrt_plugin.so")
    found = [takes_one_prompt(api, library) for api in (old, new) for library in (None, plugin)]
    assert found == [True, False, False, False]
    assert [default_points(old, library).min for library in (None, plugin)] == [1, 0]


def test_a_failure_leaves_the_others_and_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Job, report: object) -> Built:
        if job.exact == Exact(1, 0):
            raise BuildError("TensorRT 8.6.0 cannot build the decoder: no implementation")
        return run(job, report)

    monkeypatch.setattr(engines, "run_job", fail)
    built = build_engines(directory, Target.TENSORRT, OPTIONS, [Stage.DECODER])
    assert list(built) == [Stage.DECODER, (Stage.DECODER, Exact(1, 2))]
    warning = built[Stage.DECODER][1].warnings[-1]
    assert warning.startswith("prompts that are a mask alone will be errors")
    assert "no implementation" in warning
