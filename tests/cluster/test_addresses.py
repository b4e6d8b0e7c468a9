"""Runs between addresses of an S3 server, on a real cluster whose workers die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from samtrt.choices import BackendName, Precision
from samtrt.cli import main
from samtrt.cli.dataset import BoxJob
from samtrt.cli.embed import EmbedJob
from samtrt.cli.options import Engines
from samtrt.cli.reading import ImageReader
from samtrt.cluster.addresses import claim_address, find_sources_at
from samtrt.cluster.places import Place
from samtrt.cluster.run import ClusterRun
from samtrt.cluster.staging import staged
from samtrt.datasets.boxes import BoxSource
from samtrt.datasets.output import DatasetOutput
from samtrt.datasets.work import Job, State, Task
from samtrt.formats.annotation import Categories
from support.cluster_cases import HOLD, POISON, Nodes, Running, ScriptedJob, add_picture

Lines = Callable[..., tuple[int, list[str]]]


@dataclass(frozen=True)
class Case:
    """A command, the job that it makes, and what it is given beside images and output."""

    command: str
    job: Job
    tasks: list[Task]
    options: tuple[object, ...]


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> Lines:
    """Run a command; return its exit code and what it printed."""

    def call(command: str, *arguments: object) -> tuple[int, list[str]]:
        code = main([command, str(tiny_model), *map(str, arguments)])
        return code, capfd.readouterr().out.splitlines()

    return call


def case_of(kind: str, model: Path, images: str, names: list[str], tmp_path: Path) -> Case:
    engines = Engines(model, BackendName.ONNXRUNTIME, None, 1, None)
    read, sources = ImageReader(None, "white"), find_sources_at(images).found
    if kind == "embed":
        job: Job = EmbedJob(engines, read, Path(), Precision.FP16, False)
        return Case("embed", job, [Task(source) for source in sources], ())
    file = tmp_path / "boxes.csv"
    rows = [f"{name},{x},20,{x + 40},70,cat" for name in names for x in (10, 60)]
    file.write_text("\n".join(["filename,xmin,ymin,xmax,ymax,class", *rows]) + "\n")
    boxes = BoxSource(file)
    found = boxes.assign(sources).found
    categories = Categories.of_boxes(boxes.listing.kinds(), boxes.listing.categories)
    files = DatasetOutput(Path(), [], {}, categories=categories)
    job = BoxJob(engines, read, files)
    tasks = [Task(source, given) for source, given in found.items()]
    return Case("predict", job, tasks, ("--boxes", file, "--formats", "none"))


def same(one: Path, other: bytes) -> bool:
    if one.suffix != ".safetensors":
        return one.read_bytes() == other
    ours, theirs = load(one.read_bytes()), load(other)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["embed", "boxes"])
def test_a_worker_killed_a_poisoned_image_and_a_restart(
    kind: str,
    nodes: Nodes,
    bucket: str,
    lines: Lines,
    tiny_model: Path,
    folder: Path,
    tmp_path: Path,
) -> None:
    add_picture(folder, HOLD, 10)
    add_picture(folder, POISON, 11)
    images, out = f"{bucket}/{kind}/images", f"{bucket}/{kind}/out"
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        Place(images).send(folder / name, name)
    case = case_of(kind, tiny_model, images, names, tmp_path)
    assert len(case.tasks) == len(names)
    claim_address(out)  # as commands do
    job = ScriptedJob(case.job, tmp_path / "deeds")
    running = Running(
        ClusterRun(staged(job, case.tasks, out), case.tasks, nodes.address, patience=200.0)
    )
    running.wait_until((tmp_path / "deeds" / "hold").exists)
    os.kill(int((tmp_path / "deeds" / "hold").read_text()), signal.SIGKILL)
    found = running.end()
    assert {name for name, one in found.items() if one.error} == {POISON}
    assert {one.state for one in found.values() if not one.error} == {State.DONE}

    # The image is none for the command itself: it does that one alone, and writes the whole.
    run = (images, "-o", out, *case.options, "--ray", nodes.address)
    code, said = lines(case.command, *run)
    assert code == 0
    if kind == "embed":
        done = {line for line in said if not line.endswith("is up to date")}
        assert (done, len(said)) == ({f"{out}/{POISON}.safetensors"}, len(names))
    else:
        assert said[0].startswith("1 image, 2 masks in ")
        assert said[0].endswith(f"; {len(names) - 1} done before")
        assert said[1] == f"{out}/annotations.json"

    assert lines(case.command, folder, "-o", tmp_path / "here", *case.options)[0] == 0
    written = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    there, _ = Place(out).files(recursive=True)
    ours = {path.relative_to(tmp_path / "here").as_posix() for path in written}
    assert ours | {".samtrt"} == set(there)
    for path in written:
        name = path.relative_to(tmp_path / "here").as_posix()
        assert same(path, Place(out).read(name) or b""), name
    if kind == "boxes":
        whole: dict[str, Any] = json.loads(Place(out).read("annotations.json") or b"")
        assert [one["file_name"] for one in whole["images"]] == names
