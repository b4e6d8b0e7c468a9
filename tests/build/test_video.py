"""TensorRT-RTX compiles the graphs that follow objects, without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from samtrt.backends.base import stage_tensors
from samtrt.build.compile import compile_engine
from samtrt.build.options import BuildOptions, Job
from samtrt.choices import Precision, Stage, Target, VideoStage
from samtrt.manifest import Manifest
from samtrt.tensorrt.api import load_api
from samtrt.tensorrt.record import Profile
from support.rtx_cases import needs_rtx

SIZES = {
    "objects": (1, 1, 8),
    "points": (2, 2, 8),
    "memories": (7, 7, 10),
    "pointers": (16, 16, 19),
}
"""Least, usual and most of each axis that may vary."""


@needs_rtx
@pytest.mark.parametrize("stage", VideoStage)
def test_graphs_for_videos_compile(sam2_model: Path, tmp_path: Path, stage: VideoStage) -> None:
    api = load_api(Target.TENSORRT_RTX)
    manifest = Manifest.load(sam2_model)
    inputs, outputs = stage_tensors(manifest, stage)
    profiles = {}
    for info in inputs:
        shapes = [
            tuple(size if isinstance(size, int) else SIZES[size][bound] for size in info.shape)
            for bound in range(3)
        ]
        profiles[info.name] = Profile(min=shapes[0], opt=shapes[1], max=shapes[2])
    job = Job(
        stage=Stage.DECODER,  # a record's word alone, and none is written here
        target=Target.TENSORRT_RTX,
        onnx=manifest.path_of(sam2_model, stage),
        output=tmp_path / "engine",
        precision=Precision.FP32,
        strongly_typed=api.is_strongly_typed,
        nodes=(),
        profiles={n: p for n, p in profiles.items() if p.min != p.max},
        options=BuildOptions(compute_capabilities=("8.9",)),
        plugin=None,
        timing_cache=None,
    )
    built = compile_engine(api, job)
    assert [fact.name for fact in built.inputs] == [info.name for info in inputs]
    assert [fact.name for fact in built.outputs] == [info.name for info in outputs]
    assert {fact.dtype for fact in (*built.inputs, *built.outputs)} == {"float"}
    assert (tmp_path / "engine").stat().st_size > 1_000_000
