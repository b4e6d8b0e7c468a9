"""How long one TensorRT engine runs, and where the time goes, layer by layer.

    python bench/trt_profile.py DIR --stage encoder --json profile.json

A run is timed by the GPU's own clock, as the backend does it, in a CUDA graph. Layers are timed
one by one without that graph: their sum is more than a run takes. Medians.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.backends import BackendOptions
from samtrt.backends.base import stage_tensors
from samtrt.backends.tensorrt.backend import TensorRtBackend
from samtrt.choices import AnyStage, Stage, Target, VideoStage
from samtrt.manifest import Manifest

GROUPS = {
    "reformatting": r"^Reformatting|reformat",
    "attention (plugin)": r"rel_pos_attention|square_attention",
    "layer norms (plugin)": r"layer_norm(?!.*ForeignNode)",
    "regions (Myelin)": r"ForeignNode|^\{",
    "activations": r"PWN|Erf|gelu",
    "convolutions": r"conv",
}
"""The first whose pattern is in a layer's name is its group."""


STAGES: dict[str, AnyStage] = {stage.value: stage for stage in (*Stage, *VideoStage)}
SIZES = {"batch": 1, "prompts": 1, "points": 2, "objects": 1, "memories": 7, "pointers": 16}
"""Sizes that may vary, and what they are where nothing is said."""


def group_of(name: str) -> str:
    return next((g for g, pattern in GROUPS.items() if re.search(pattern, name, re.I)), "other")


def feeds(manifest: Manifest, stage: AnyStage, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Return random inputs of a stage."""
    generator = np.random.default_rng(0)
    return {
        info.name: generator.random(
            [sizes[size] if isinstance(size, str) else size for size in info.shape]
        ).astype(info.dtype)
        for info in stage_tensors(manifest, stage)[0]
    }


def profile(backend: TensorRtBackend, runs: int) -> list[dict[str, Any]]:
    """Return the median milliseconds of every layer, in their order."""
    trt, lane = backend._api.trt, backend._lanes[None]

    class Recorder(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = defaultdict(list)

        def report_layer_time(self, name: str, milliseconds: float) -> None:
            self.times[name].append(milliseconds)

    lane._context.profiler = recorder = Recorder()
    for _ in range(runs):
        lane._context.execute_async_v3(lane._stream)
        backend._cuda.synchronize(lane._stream)
    return [
        {"layer": name, "group": group_of(name), "ms": round(statistics.median(times), 5)}
        for name, times in recorder.times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--stage", default=Stage.ENCODER.value, choices=list(STAGES))
    parser.add_argument("--target", type=Target, default=Target.TENSORRT, choices=list(Target))
    parser.add_argument("--device", default="cuda")
    for size, usual in SIZES.items():
        parser.add_argument(f"--{size}", type=int, default=usual)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    manifest = Manifest.load(options.directory)
    stage, sizes = STAGES[options.stage], {name: getattr(options, name) for name in SIZES}
    backend = TensorRtBackend(
        options.directory,
        manifest,
        stage,
        options.target,
        BackendOptions(device=options.device),
    )
    inputs = feeds(manifest, stage, sizes)
    times = []
    for _ in range(options.warmup + options.runs):
        backend.run(inputs)
        times.append(backend.device_time_ms)
    times = sorted(times[options.warmup :])
    layers = profile(backend, options.runs)
    groups: dict[str, float] = defaultdict(float)
    for layer in layers:
        groups[layer["group"]] += layer["ms"]
    document = {
        "stage": options.stage,
        "sizes": sizes,
        "run_ms": {"p50": statistics.median(times), "least": times[0], "most": times[-1]},
        "groups": {name: round(ms, 4) for name, ms in sorted(groups.items(), key=lambda g: -g[1])},
        "layers": layers,
    }
    print(json.dumps({key: document[key] for key in ("run_ms", "groups")}, indent=1))
    for layer in sorted(layers, key=lambda one: -one["ms"])[:12]:
        print(f"{layer['ms']:.4f} ms  {layer['layer'][:100]}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    backend.close()


if __name__ == "__main__":
    main()
