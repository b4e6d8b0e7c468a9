"""Images and results at addresses, without a cluster: the files are those of folders."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from samtrt.choices import BackendName, OutputFormat, Precision
from samtrt.cli.auto import AutoJob
from samtrt.cli.embed import EmbedJob
from samtrt.cli.options import Engines
from samtrt.cli.reading import ImageReader
from samtrt.cluster import staging as module
from samtrt.cluster.addresses import claim_address, find_sources_at, merge_at
from samtrt.cluster.places import Place
from samtrt.cluster.staging import staged
from samtrt.datasets.output import DatasetOutput
from samtrt.datasets.work import Job, Outcome, State, Task, run_here
from samtrt.errors import ImageError, OutputError
from samtrt.sources import find_sources

FORMATS = [OutputFormat.OVERLAY, OutputFormat.LABELMAP, OutputFormat.LABELME, OutputFormat.YOLO]
OPTIONS = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    """A store with the pictures of `folder`, in `images`, and nothing else."""
    pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "UNSENT", 2)
    place = Place("memory://bucket")
    for path in folder.iterdir():
        place.send(path, f"images/{path.name}")
    yield place
    MemoryFileSystem.store.clear()


def auto_job(model: Path, address: str = "", directory: Path = Path()) -> AutoJob:
    engines = Engines(model, BackendName.ONNXRUNTIME, None, 1, None)
    files = DatasetOutput(directory, FORMATS, {}, address=address)
    return AutoJob(engines, ImageReader(None, "white"), files, OPTIONS)


def run(job: Job, tasks: list[Task]) -> dict[str, Outcome]:
    work = job.open()
    found = {task.source.shown: outcome for task, outcome in run_here(work, tasks, lambda *_: None)}
    work.close()
    return found


def states(found: dict[str, Outcome]) -> set[State]:
    return {outcome.state for outcome in found.values()}


def at(address: str) -> list[Task]:
    return [Task(source) for source in find_sources_at(address, recursive=True).found]


def merged(job: AutoJob, tasks: list[Task], address: str) -> str:
    files = replace(job.files, settings={"of": "a test"})
    for task in tasks:
        files.note_done(task.source)
    return merge_at(address, files, [task.source for task in tasks])


def test_results_are_the_files_of_a_folder(
    store: Place, folder: Path, fake_directory: Path, tmp_path: Path
) -> None:
    local = [Task(source) for source in find_sources([folder]).found]
    out = tmp_path / "out"
    here = auto_job(fake_directory, directory=out)
    assert states(run(here, local)) == {State.DONE}
    here = replace(here, files=replace(here.files, settings={"of": "a test"}))
    for task in local:
        here.files.note_done(task.source)
    here.files.merge([task.source for task in local])

    job, tasks = auto_job(fake_directory, "memory://bucket/out"), at("memory://bucket/images")
    claim_address("memory://bucket/out")
    found = run(staged(job, tasks, job.files.address), tasks)
    assert store.is_file("out/.samtrt")
    assert (list(found), states(found)) == ([task.source.shown for task in tasks], {State.DONE})
    assert merged(job, tasks, "memory://bucket/out") == "memory://bucket/out/annotations.json"

    there = Place("memory://bucket/out")
    names, _ = there.files(recursive=True)
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert set(names) == written | {".samtrt"}
    for name in written:
        ours, theirs = there.read(name), (out / name).read_bytes()
        if name.endswith(".json") and name != "annotations.json":
            one, other = json.loads(ours or b""), json.loads(theirs)
            assert as_elsewhere(one) == as_elsewhere(other)
        else:
            assert ours == theirs
    (link,) = {json.loads(there.read("labelme/p3.json") or b"")["imagePath"]}
    assert link == "../../images/p3.png"
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".samtrt-")] == []


def as_elsewhere(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs by the place: labelme's link, and with it the hashes of files."""
    document.pop("imagePath", None)
    if "info" in document:
        files = document["info"]["files"]
        document["info"]["files"] = {k: v for k, v in files.items() if k not in ("labelme", "coco")}
    return document


def test_a_restart_does_what_is_missing_changed_or_half_there(
    store: Place, fake_directory: Path
) -> None:
    address = "memory://bucket/out"
    job, tasks = auto_job(fake_directory, address), at("memory://bucket/images")
    assert states(run(staged(job, tasks, address), tasks)) == {State.DONE}
    store.remove("out/coco/p1.json")  # killed before its marker was sent
    store.remove("out/overlay/p2.png")
    store.write("images/p3.png", store.read("images/p4.png") or b"")
    store.write("out/labelme/p5.json", b"mended by hand")
    found = run(staged(job, tasks, address), tasks)
    done = {name for name, one in found.items() if one.state is State.DONE}
    assert done == {"p1.png", "p2.png", "p3.png"}
    failed = {name: str(one.error) for name, one in found.items() if one.error}
    assert set(failed) == {"p5.png"}
    assert failed["p5.png"].startswith(f"{address}/labelme/p5.json was changed since samtrt wrote")
    assert store.read("out/labelme/p5.json") == b"mended by hand"


def test_an_image_that_fails_is_named_by_its_address(store: Place, fake_directory: Path) -> None:
    store.write("images/damaged.png", b"no picture")
    job, tasks = auto_job(fake_directory, "memory://bucket/out"), at("memory://bucket/images")
    store.remove("images/p7.png")  # since they were listed
    found = run(staged(job, tasks, "memory://bucket/out"), tasks)
    failed = {name: str(one.error) for name, one in found.items() if one.error}
    assert set(failed) == {"damaged.png", "p7.png"}
    assert "memory://bucket/images/damaged.png" in failed["damaged.png"]
    assert failed["p7.png"] == "memory://bucket/images/p7.png is not there any more"
    assert not store.exists("out/coco/damaged.json")


def test_results_that_cannot_be_sent_are_not_done(
    store: Place, fake_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = Place.send

    def send(self: Place, file: Path, name: str) -> None:
        if "p2" in name and name.startswith("labelmap"):
            raise OutputError(f"cannot write {self.told(name)}: no room")
        sends(self, file, name)

    monkeypatch.setattr(Place, "send", send)
    job, tasks = auto_job(fake_directory, "memory://bucket/out"), at("memory://bucket/images")
    found = run(staged(job, tasks, "memory://bucket/out"), tasks)
    assert {name for name, one in found.items() if one.error} == {"p2.png"}
    assert not store.exists("out/coco/p2.json")
    assert store.exists("out/coco/p1.json")


def test_embeddings_to_an_address_and_images_from_one(
    store: Place, fake_directory: Path, tmp_path: Path
) -> None:
    engines = Engines(fake_directory, BackendName.ONNXRUNTIME, None, 1, None)
    job = EmbedJob(engines, ImageReader(None, "white"), tmp_path / "e", Precision.FP16, False)
    tasks = at("memory://bucket/images")
    assert states(run(staged(job, tasks, "memory://bucket/e"), tasks)) == {State.DONE}
    assert states(run(staged(job, tasks, ""), tasks)) == {State.DONE}  # to the job's own folder
    for path in (tmp_path / "e").iterdir():
        theirs, ours = load(path.read_bytes()), load(store.read(f"e/{path.name}") or b"")
        assert theirs.keys() == ours.keys()
        assert all(np.array_equal(theirs[name], ours[name]) for name in ours)
    for address in ("memory://bucket/e", ""):
        assert states(run(staged(job, tasks, address), tasks)) == {State.BEFORE}


def test_images_at_an_address_are_found_as_in_a_folder(store: Place) -> None:
    address = "memory://bucket/found"
    for name in ("b.png", "a.jpg", "notes.txt", ".hidden.png", "sub/c.png", "out/d.png"):
        store.write(f"found/{name}", b"x")
    found = find_sources_at(f"{address}/")
    assert [one.told for one in found.found] == [f"{address}/a.jpg", f"{address}/b.png"]
    assert "notes.txt" in found.notice()
    assert "2 folders" in found.notice()
    deep = find_sources_at(address, recursive=True, leave_out=f"{address}/out")
    assert [one.shown for one in deep.found] == ["a.jpg", "b.png", "sub/c.png"]
    (one,) = find_sources_at(f"{address}/b.png").found
    assert (one.told, one.name.as_posix()) == (f"{address}/b.png", "b")
    store.write("found/b.jpg", b"x")
    with pytest.raises(ImageError, match="would write results of the same name"):
        find_sources_at(address)
    with pytest.raises(ImageError, match="memory://bucket/none holds no image"):
        find_sources_at("memory://bucket/none")


def test_a_directory_of_others_is_not_written_into(store: Place) -> None:
    store.write("theirs/yolo/labels/a.txt", b"by hand")
    with pytest.raises(OutputError, match="memory://bucket/theirs/yolo is there already"):
        claim_address("memory://bucket/theirs")
    claim_address("memory://bucket/theirs", force=True)
    claim_address("memory://bucket/theirs")  # ours from now on
