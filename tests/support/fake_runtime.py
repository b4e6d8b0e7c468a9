"""The fake backend in ONNX Runtime's place, for model directories whose graphs are none.

    python tests/support/fake_runtime.py serve DIR ...

is the command line with it, for tests that need a process.
"""

from __future__ import annotations

import sys
from pathlib import Path

from samtrt import backends, predictor
from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend
from samtrt.backends.fake import FakeBackend
from samtrt.choices import BackendName, Stage, VideoStage
from samtrt.cli import main
from samtrt.manifest import FileEntry, Manifest
from samtrt.predictor import Predictor

NO_GRAPH = b"not a graph"
COMMAND = (sys.executable, __file__)
"""Starts the command line in a process of its own."""


def write_directory(directory: Path, manifest: Manifest) -> Path:
    """Make a model directory whose graphs no runtime can read."""
    directory.mkdir()
    files = {}
    for stage in (*Stage, *(VideoStage if manifest.video else ())):
        path = directory / f"{stage.value}.onnx"
        path.write_bytes(NO_GRAPH)
        files[stage] = (FileEntry.of(path),)
    manifest.model_copy(update={"files": files}).save(directory)
    return directory


def fake_predictor(manifest: Manifest) -> Predictor:
    """Return a predictor with no weights: discs around points, boxes as masks."""
    return Predictor(*(FakeBackend(manifest, stage) for stage in Stage), manifest)


def open_backend(
    name: BackendName | str,
    directory: Path,
    manifest: Manifest,
    stage: Stage,
    options: BackendOptions | None = None,
) -> Backend:
    """As samtrt's own, but for what ONNX Runtime would be given of `write_directory`."""
    if name == BackendName.ONNXRUNTIME and manifest.files[stage][0].size == len(NO_GRAPH):
        return FakeBackend(manifest, stage)
    return backends.open_backend(name, directory, manifest, stage, options)


if __name__ == "__main__":
    predictor.open_backend = open_backend
    sys.exit(main())
