"""CPU time of all processes of a Ray cluster, while a run is in the middle."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from samtrt.cluster.run import ClusterRun
from samtrt.datasets.work import Job, State, Task

OBJECT_STORE = 80_000_000
SETTLE_SECONDS = 5.0
IDLE_SECONDS = 15.0

Seconds = dict[int, tuple[str, float]]
"""Of a process: what it is for, and the CPU time that it took so far."""


def cpu_of(processes: Sequence[psutil.Process]) -> Seconds:
    """Return the CPU time of processes and of their descendants, with that of ended ones."""
    seconds: Seconds = {}
    for top in processes:
        for one in [top, *top.children(recursive=True)]:
            try:
                times = one.cpu_times()
            except psutil.Error:
                continue
            try:
                line = " ".join(one.cmdline())
            except psutil.Error:  # it ended, and was not waited for
                line = ""
            # Own, and of children that were waited for.
            seconds[one.pid] = kind_of(one.pid, line), sum(times[:4])
    return seconds


def kind_of(pid: int, line: str) -> str:
    """Name what a process is for."""
    if pid == os.getpid():
        return "command"
    if line.startswith("ray::"):
        return "actor " + re.split(r"[(.]", line.removeprefix("ray::"))[0].strip()
    kinds = {
        "samtrt.cluster.driver": "the run's process",
        "raylet/raylet": "raylets",
        "gcs_server": "head",
        "agent": "agents",
    }
    return next((kind for word, kind in kinds.items() if word in line), "other")


@dataclass(frozen=True)
class Observed:
    """What happens between the first images of a run and its last.

    Attributes:
        wall: Seconds.
        images: How many end.
        cpu: CPU seconds of each process.
        idle: CPU seconds a second of all processes of Ray while nothing runs.
    """

    wall: float
    images: float
    cpu: Seconds
    idle: float

    def kinds(self, leave_out: Collection[int] = ()) -> Counter[str]:
        """Return the CPU time of each kind of process, without single ones."""
        kinds: Counter[str] = Counter()
        for pid, (kind, seconds) in self.cpu.items():
            if pid not in leave_out:
                kinds[kind] += seconds
        return kinds


def observe(job: Job, tasks: list[Task], workers: int) -> Observed:
    """Run on a fresh cluster."""
    from ray.cluster_utils import Cluster

    here = str(Path(__file__).parent)  # what workers import the job from
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    cluster = Cluster()
    for cpus in (0, *[1] * workers):
        cluster.add_node(num_cpus=cpus, object_store_memory=OBJECT_STORE, include_dashboard=False)
    nodes = [cluster.head_node, *cluster.worker_nodes]
    services = [
        psutil.Process(one.process.pid)
        for node in nodes
        for kind in node.all_processes.values()
        for one in kind
    ]
    time.sleep(SETTLE_SECONDS)
    idle = cpu_of(services)
    time.sleep(IDLE_SECONDS)
    idle_share = sum(taken(idle, cpu_of(services)).values()) / IDLE_SECONDS
    everything = [*services, psutil.Process()]
    begun: list[tuple[float, float, Seconds]] = []

    def at(images: float) -> None:
        if images >= 1 and not begun:  # what Ray starts once is not counted
            begun.append((images, time.perf_counter(), cpu_of(everything)))

    found = ClusterRun(job, tasks, cluster.address).outcomes(
        lambda line: print(line, file=sys.stderr), at
    )
    for number, (_, outcome) in enumerate(found, start=1):
        assert outcome.state is State.DONE, outcome.error
        if number == len(tasks):  # before the run's process ends, whose start would count
            end, after = time.perf_counter(), cpu_of(everything)
    cluster.shutdown()
    ((images, start, before),) = begun
    names = {**after, **before}  # of one that ended, none is known any more
    cpu = {pid: (names[pid][0], seconds) for pid, seconds in taken(before, after).items()}
    return Observed(end - start, len(tasks) - images, cpu, idle_share)


def taken(before: Seconds, after: Seconds) -> dict[int, float]:
    """Return the CPU time that each process took."""
    return {
        pid: max(0.0, seconds - before.get(pid, ("", 0.0))[1])
        for pid, (_, seconds) in after.items()
    }
