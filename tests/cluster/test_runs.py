"""Runs on a cluster: each image is done once or named as failed, with one machine's files."""

from __future__ import annotations

import filecmp
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from samtrt.choices import BackendName
from samtrt.cli.auto import AutoJob
from samtrt.cli.options import Engines
from samtrt.cli.reading import ImageReader
from samtrt.cluster.run import ClusterRun
from samtrt.datasets.output import DatasetOutput
from samtrt.datasets.work import State, Task, run_here
from samtrt.sources import find_sources
from support.cluster_cases import HOLD, POISON, Nodes, Running, ScriptedJob, add_picture

OPTIONS = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


def auto_job(model: Path, out: Path) -> AutoJob:
    engines = Engines(model, BackendName.ONNXRUNTIME, None, 1, None)
    files = DatasetOutput(out, [], {})
    return AutoJob(engines, ImageReader(None, "white"), files, OPTIONS)


def same_files(one: Path, other: Path) -> bool:
    """Tell whether two folders hold the same names with the same bytes."""
    names = [
        sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
        for root in (one, other)
    ]
    return names[0] == names[1] and all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names[0]
    )


def done_here(job: AutoJob, tasks: list[Task]) -> None:
    work = job.open()
    assert {outcome.state for _, outcome in run_here(work, tasks, lambda *_: None)} == {State.DONE}
    work.close()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_worker_killed_a_node_added_and_poisoned_images(
    nodes: Nodes, tiny_model: Path, folder: Path, tmp_path: Path
) -> None:
    add_picture(folder, HOLD, 10)
    add_picture(folder, POISON, 11)
    (folder / "damaged.png").write_bytes(b"no picture")
    tasks = [Task(source) for source in find_sources([folder]).found]
    deeds = tmp_path / "deeds"
    job = ScriptedJob(auto_job(tiny_model, tmp_path / "out"), deeds)
    running = Running(ClusterRun(job, tasks, nodes.address, patience=200.0))
    running.wait_until((deeds / "hold").exists)
    nodes.add()
    # Beside the worker that is held, the one on the new node.
    running.wait_until(lambda: len(list(deeds.glob("worker-*"))) == 2)
    os.kill(int((deeds / "hold").read_text()), signal.SIGKILL)
    found = running.end()
    assert set(found) == {task.source.name.name for task in tasks}
    failed = {name: str(one.error) for name, one in found.items() if one.error}
    assert set(failed) == {POISON, "damaged"}
    assert "died each time" in failed[POISON]
    assert "damaged.png" in failed["damaged"]
    good = [task for task in tasks if task.source.name.name not in failed]
    assert {found[task.source.name.name].state for task in good} == {State.DONE}
    done_here(auto_job(tiny_model, tmp_path / "here"), good)
    assert same_files(tmp_path / "out", tmp_path / "here")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_head_restarted(nodes: Nodes, tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    add_picture(folder, HOLD, 10)  # before all others by its name
    tasks = [Task(source) for source in find_sources([folder]).found]
    deeds = tmp_path / "deeds"
    job = ScriptedJob(auto_job(tiny_model, tmp_path / "out"), deeds)
    running = Running(ClusterRun(job, tasks, nodes.address, patience=30.0))
    running.wait_until((deeds / "hold").exists)
    nodes.lose()
    running.wait_until(lambda: bool(running.said))
    nodes.restart()
    nodes.add()
    found = running.end()
    assert "the cluster was lost" in running.said[0]
    assert set(found) == {task.source.name.name for task in tasks}
    assert {one.state for one in found.values()} <= {State.DONE, State.BEFORE}
    done_here(auto_job(tiny_model, tmp_path / "here"), tasks)
    assert same_files(tmp_path / "out", tmp_path / "here")
    with suppress(ProcessLookupError):  # its node's end may have ended it
        os.kill(int((deeds / "hold").read_text()), signal.SIGKILL)
