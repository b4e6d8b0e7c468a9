"""Which part of a graph TensorRT does not build.

    python bench/trt_bisect.py DIR/encoder.onnx --json found.json
    python bench/trt_bisect.py DIR/decoder.onnx --sizes prompts=1:1:16 points=1:2:6 --level 3
    python bench/trt_bisect.py GRAPH --edits linear-as-convolution sigmoid-for-tanh

Where TensorRT's compiler finds no implementation it names the first and the last node of a region
of hundreds. This looks for the shortest part that fails: first the earliest tensor up to which the
graph does not build, then the latest one from which on it does not, several cuts at a time, each
built in a process of its own. Prints the operators of that part. `--slow` looks for what is not
done in time. `--edits` are other ways to write the same numbers: with them, the whole graph is
built in each form, and all forms together.
Needs `onnx` and TensorRT, not PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
from onnx.utils import Extractor

from trt_edits import EDITS, dims_of
from trt_network import parse_fp16

SIZE = {"prompts": "1:1:16", "points": "1:2:6"}
"""Least, usual and most of the dimensions that are not fixed."""


def build(path: Path, sizes: dict[str, str], level: int) -> None:
    """Build one graph; end with what TensorRT says otherwise."""
    parsed = parse_fp16(path)
    parsed.config.builder_optimization_level = level
    profile = parsed.builder.create_optimization_profile()
    for value in onnx.load(path, load_external_data=False).graph.input:
        dims = dims_of(value)
        if any(isinstance(dim, str) for dim in dims):
            limits = [sizes[dim].split(":") if isinstance(dim, str) else [dim] * 3 for dim in dims]
            profile.set_shape(value.name, *([int(one[i]) for one in limits] for i in range(3)))
    parsed.config.add_optimization_profile(profile)
    parsed.build()


class Trial:
    """Builds parts of a graph, several at once."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder = options, folder

    def builds(self, model: onnx.ModelProto) -> tuple[bool, str]:
        """Return whether a graph builds, and the first line of what was said otherwise."""
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".onnx", delete=False) as file:
            path = Path(file.name)
        onnx.save(model, path)
        command = [*self._options.builder, str(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self._options.seconds, check=False
            )
        except subprocess.TimeoutExpired:
            taken = "fails" if self._options.slow else "builds"
            return not self._options.slow, (
                f"not done after {self._options.seconds:.0f} s: taken for one that {taken}"
            )
        finally:
            path.unlink()
        lines = (done.stderr or done.stdout).strip().splitlines()
        return done.returncode == 0, lines[0][:300] if done.returncode and lines else ""

    def earliest(self, count: int, make: Any) -> int | None:
        """Return the least number in 0..count - 1 whose graph fails, as all that follow it do."""
        low, high = 0, count - 1
        if self.builds(make(high))[0]:
            return None
        with ThreadPoolExecutor(self._options.jobs) as pool:
            while low < high:
                step = max(1, (high - low) // (self._options.jobs + 1))
                cuts = list(range(low, high, step))[: self._options.jobs]
                works = list(pool.map(lambda cut: self.builds(make(cut))[0], cuts))
                if all(works):
                    low = cuts[-1] + 1
                    continue
                first = works.index(False)
                high, low = cuts[first], cuts[first - 1] + 1 if first else cuts[0]
        return high


def failing_part(model: onnx.ModelProto, trial: Trial) -> list[onnx.NodeProto]:
    """Return the nodes of the shortest part that does not build; empty where all of it does."""
    cutter = Extractor(model)
    known = {value.name for value in [*model.graph.value_info, *model.graph.output]}
    inputs = [value.name for value in model.graph.input]
    ends = [
        n.output[0] for n in model.graph.node if n.op_type != "Constant" and n.output[0] in known
    ]
    end = trial.earliest(len(ends), lambda cut: cutter.extract_model(inputs, [ends[cut]]))
    if end is None:
        return []
    # From one tensor on: what else is needed stays an input of the part.
    part = cutter.extract_model(inputs, [ends[end]])
    nodes = list(part.graph.node)[:-1]

    def later(cut: int) -> onnx.ModelProto:
        done = nodes[: len(nodes) - cut]
        return cut_off(part, [name for node in done for name in node.output if name in known])

    start = trial.earliest(len(nodes) + 1, later)
    return list((later(start) if start is not None else part).graph.node)


def cut_off(model: onnx.ModelProto, made: list[str]) -> onnx.ModelProto:
    """Return the graph with these tensors as inputs, as far as it needs them."""
    inputs, outputs = (
        [value.name for value in some] for some in (model.graph.input, model.graph.output)
    )
    cut = Extractor(model).extract_model([*inputs, *made], outputs)
    used = {name for node in cut.graph.node for name in node.input}
    needed = [value for value in cut.graph.input if value.name in used]
    del cut.graph.input[:]
    cut.graph.input.extend(needed)
    return cut


def with_edits(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    for name in names:
        EDITS[name](edited)
    return edited


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("graph", type=Path)
    parser.add_argument("--sizes", nargs="*", default=[], help="such as prompts=1:1:16")
    parser.add_argument("--level", type=int, default=3, help="of optimization")
    parser.add_argument("--edits", nargs="*", choices=sorted(EDITS))
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=90, help="for each build")
    parser.add_argument("--slow", action="store_true", help="look for what takes longer than that")
    parser.add_argument(
        "--builder", type=shlex.split, help="words before a graph, instead of TensorRT"
    )
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    again = [sys.executable, __file__, "--build", "--level", str(options.level)]
    options.builder = options.builder or [*again, "--sizes", *options.sizes, "--"]
    return options


def main() -> None:
    options = parse()
    sizes = SIZE | dict(one.split("=", 1) for one in options.sizes)
    if options.build:
        build(options.graph, sizes, options.level)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    model = onnx.shape_inference.infer_shapes(onnx.load(options.graph))
    found: dict[str, Any] = {"graph": options.graph.name, "level": options.level}
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(options, Path(folder))
        if options.edits is None:
            part = failing_part(model, trial)
            found["part"] = [f"{node.op_type} {node.name}" for node in part]
            print("\n".join(found["part"]) or "all of it builds")
        else:
            forms = [[name] for name in options.edits]
            forms += [options.edits] if len(forms) > 1 else []
            edited = [with_edits(model, names) for names in forms]
            with ThreadPoolExecutor(options.jobs) as pool:
                for names, built in zip(forms, pool.map(trial.builds, edited), strict=True):
                    found[" ".join(names)] = built
                    print(" ".join(names), *built, flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
