"""Where ONNX Runtime spends its time in a model directory's engines, by operator and shape.

    python bench/ort_profile.py DIR [--prompts 1] [--runs 3] [--top 12]

One thread, so that times add up; of several runs, the least of each node.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnxruntime as ort

from samtrt.backends.base import stage_tensors
from samtrt.choices import Stage
from samtrt.manifest import Manifest


def feeds(manifest: Manifest, stage: Stage, prompts: int) -> dict[str, np.ndarray]:
    """Return noise; one point and its padding a prompt, no masks."""
    rng, sizes = np.random.default_rng(0), {"prompts": prompts, "points": 2, "batch": 1}
    arrays = {
        info.name: rng.normal(size=[sizes.get(dim, dim) for dim in info.shape]).astype(info.dtype)
        for info in stage_tensors(manifest, stage)[0]
    }
    if stage is Stage.DECODER:
        arrays["point_labels"][:] = 1, -1
        arrays["has_mask_input"][:] = 0
    return arrays


def profile(path: Path, inputs: dict[str, np.ndarray], runs: int) -> dict[tuple[str, str], float]:
    """Return milliseconds by operator and shapes."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/run"
        session = ort.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],  # as samtrt.backends.ort
        )
        for _ in range(runs):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            shapes = (
                [next(iter(entry.values())) for entry in arguments[key]]
                for key in ("input_type_shape", "output_type_shape")
            )
            text = " -> ".join(" ".join("x".join(map(str, s)) for s in side) for side in shapes)
            nodes[arguments["op_name"], text, event["name"]].append(event["dur"])
    total: Counter[tuple[str, str]] = Counter()
    for (operator, text, _), durations in nodes.items():
        total[operator, text] += min(durations) / 1000
    return dict(total)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--top", type=int, default=12)
    arguments = parser.parse_args()
    manifest = Manifest.load(arguments.directory)
    for stage in Stage:
        inputs = feeds(manifest, stage, arguments.prompts)
        found = profile(manifest.path_of(arguments.directory, stage), inputs, arguments.runs)
        total = sum(found.values())
        print(f"{stage.value}: {total:.1f} ms on one thread")
        by_operator: Counter[str] = Counter()
        for (operator, _), milliseconds in found.items():
            by_operator[operator] += milliseconds
        for operator, milliseconds in by_operator.most_common(arguments.top):
            print(f"  {operator:22} {milliseconds:9.1f} ms {milliseconds / total:6.1%}")
        for (operator, text), milliseconds in Counter(found).most_common(arguments.top):
            print(f"    {milliseconds:9.1f} ms  {operator} {text[:110]}")


if __name__ == "__main__":
    main()
