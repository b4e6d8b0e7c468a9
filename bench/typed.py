"""Fidelity of typed fp16 graphs on ONNX Runtime, ours or modelopt's: no GPU needed.

    python bench/typed.py CHECKPOINT --json docs/results/typed-fp16.json
    python bench/typed.py CHECKPOINT --json docs/results/autocast-fp16.json --converter autocast

Exports in fp32, converts both graphs, counts nodes and casts, and runs samtrt verify. `samtrt` is
what samtrt export and samtrt build do; `autocast` is modelopt.onnx.autocast, of the package
nvidia-modelopt[onnx], which is no dependency of samtrt. What TensorRT makes of the graphs is
another question, which needs a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx

from samtrt.backends.base import image_inputs
from samtrt.choices import Precision, Stage
from samtrt.export.precision import convert, load_graph, save_graph
from samtrt.manifest import FileEntry, Manifest


def converted(path: Path, stage: Stage, converter: str) -> onnx.ModelProto:
    """Return a float32 graph in fp16, with float32 inputs and outputs."""
    if converter == "samtrt":
        return convert(
            load_graph(path), Precision.FP16, image_inputs(stage, Manifest.load(path.parent))
        )
    from modelopt.onnx.autocast import convert_to_mixed_precision

    model = convert_to_mixed_precision(str(path), keep_io_types=True)
    del model.graph.value_info[
        :
    ]  # shapes of one size of input, to which ONNX Runtime would hold it
    return model


def write_half(source: Path, target: Path, converter: str) -> None:
    """Write a model directory with the graphs of `source` in fp16."""
    manifest = Manifest.load(source)
    files = {}
    for stage in Stage:
        path = target / f"{stage.value}.onnx"
        model = converted(manifest.path_of(source, stage), stage, converter)
        operators = Counter(node.op_type for node in model.graph.node)
        print(f"{stage.value}: {operators.total()} nodes, {operators['Cast']} casts", flush=True)
        save_graph(model, path)
        parts = [path, path.with_name(f"{path.name}.data")]
        files[stage] = tuple(FileEntry.of(part) for part in parts if part.exists())
    manifest.model_copy(update={"files": files, "precision": Precision.FP16}).save(target)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--converter", choices=["samtrt", "autocast"], default="samtrt")
    arguments = parser.parse_args()
    samtrt = [sys.executable, "-m", "samtrt"]
    with tempfile.TemporaryDirectory() as folder:
        exported, changed = Path(folder) / "fp32", Path(folder) / "fp16"
        changed.mkdir()
        subprocess.run([*samtrt, "export", arguments.checkpoint, "-o", exported], check=True)
        write_half(exported, changed, arguments.converter)
        verify = [*samtrt, "verify", changed, "-c", arguments.checkpoint, "--json", arguments.json]
        return subprocess.run(verify, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
