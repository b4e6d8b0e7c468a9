"""Fidelity of the typed fp16 graphs that samtrt build makes, on ONNX Runtime: no GPU needed.

    python bench/typed.py CHECKPOINT --json docs/results/typed-fp16.json

Exports in fp32, converts both graphs as a strongly typed build does, and runs samtrt verify.
What TensorRT makes of the graphs is another question, which needs a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from samtrt.backends.base import IMAGE_INPUTS
from samtrt.choices import Precision, Stage
from samtrt.export.precision import convert, load_graph, save_graph
from samtrt.manifest import FileEntry, Manifest


def typed(source: Path, target: Path) -> None:
    """Write a model directory with the graphs of `source` in fp16."""
    manifest = Manifest.load(source)
    files = {}
    for stage in Stage:
        path = target / f"{stage.value}.onnx"
        graph = load_graph(manifest.path_of(source, stage))
        save_graph(convert(graph, Precision.FP16, IMAGE_INPUTS[stage]), path)
        parts = [path, path.with_name(f"{path.name}.data")]
        files[stage] = tuple(FileEntry.of(part) for part in parts if part.exists())
    manifest.model_copy(update={"files": files, "precision": Precision.FP16}).save(target)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    samtrt = [sys.executable, "-m", "samtrt"]
    with tempfile.TemporaryDirectory() as folder:
        exported, changed = Path(folder) / "fp32", Path(folder) / "fp16"
        changed.mkdir()
        subprocess.run([*samtrt, "export", arguments.checkpoint, "-o", exported], check=True)
        typed(exported, changed)
        verify = [*samtrt, "verify", changed, "-c", arguments.checkpoint, "--json", arguments.json]
        return subprocess.run(verify, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
