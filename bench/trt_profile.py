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
from samtrt.choices import Stage, Target
from samtrt.manifest import Manifest

GROUPS = {
    "reformatting": r"^Reformatting|reformat",
    "attention (plugin)": r"rel_pos_attention",
    "layer norms (plugin)": r"layer_norm(?!.*ForeignNode)",
    "regions (Myelin)": r"ForeignNode|^\{",
    "activations": r"PWN|Erf|gelu",
    "convolutions": r"conv",
}
"""The first whose pattern is in a layer's name is its group."""


def group_of(name: str) -> str:
    return next((g for g, pattern in GROUPS.items() if re.search(pattern, name, re.I)), "other")


def feeds(manifest: Manifest, stage: Stage, prompts: int) -> dict[str, np.ndarray]:
    """Return inputs of a stage: random, for one image or some prompts of two points."""
    sizes = {"batch": 1, "prompts": prompts, "points": 2}
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
    parser.add_argument("--stage", type=Stage, default=Stage.ENCODER, choices=list(Stage))
    parser.add_argument("--target", type=Target, default=Target.TENSORRT, choices=list(Target))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    manifest = Manifest.load(options.directory)
    backend = TensorRtBackend(
        options.directory,
        manifest,
        options.stage,
        options.target,
        BackendOptions(device=options.device),
    )
    inputs = feeds(manifest, options.stage, options.prompts)
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
        "stage": options.stage.value,
        "prompts": options.prompts,
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
