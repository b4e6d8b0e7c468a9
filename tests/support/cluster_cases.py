"""A cluster of several nodes, and jobs whose images do things to the worker that has them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samtrt.cli.auto import AutoJob
from samtrt.datasets.work import Outcome, Progress, Task, Work
from samtrt.sources import Source

POISON, HOLD = "poison", "hold"
"""Names of images: of one that ends the process that works on it, always; and of one that the first
process to work on it holds for ever."""


STORE = 80_000_000
"""Bytes of a node's object store, the least that Ray takes."""


class Nodes:
    """A cluster's processes; the head works on nothing."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster()
        self._head()
        self.port = int(self.address.rpartition(":")[2])

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def _head(self, **more: Any) -> None:
        self._start(num_cpus=0, include_dashboard=False, **more)

    def add(self, cpus: int = 1, **more: Any) -> Any:
        """Start a node."""
        return self._start(num_cpus=cpus, **more)

    def _start(self, **options: Any) -> Any:
        """Start a node; again, where a machine at work took more than Ray's 30 s for it."""
        tries = 3
        while True:
            try:
                return self._cluster.add_node(object_store_memory=STORE, **options)
            except Exception as error:
                tries -= 1
                if not tries or "timed out during startup" not in str(error):
                    raise

    def add_with(self, folder: Path) -> Any:
        """Start a node whose processes import from a folder before all others."""
        path = f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"
        return self.add(env_vars={"PYTHONPATH": path})

    def room_for(self, workers: int) -> None:
        """Start nodes until there are so many."""
        while len(self._cluster.worker_nodes) < workers:
            self.add()

    def remove(self, node: Any) -> None:
        """Kill a node."""
        self._cluster.remove_node(node, allow_graceful=False)

    def lose(self) -> None:
        """Kill every node."""
        for node in [*self._cluster.worker_nodes, self._cluster.head_node]:
            self.remove(node)

    def restart(self) -> None:
        """Start a head at the same address, which knows nothing of the one before."""
        self._head(gcs_server_port=self.port)

    def processes(self, title: str) -> list[int]:
        """Return the workers of all nodes whose title begins so."""
        nodes = [*self._cluster.worker_nodes, self._cluster.head_node]
        raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                line = (process / "cmdline").read_text()
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if line.startswith(f"ray::{title}") and parent in raylets:
                    found.append(int(process.name))
        return found

    def shutdown(self) -> None:
        self._cluster.shutdown()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True)
class ScriptedJob:
    """An `AutoJob` with such images. It tells its deeds in files of a folder.

    Attributes:
        job: What is done with all other images.
        deeds: `worker-PID` for each process that opens it, `hold` with the process that holds.
    """

    job: AutoJob
    deeds: Path

    @property
    def engines(self) -> Any:
        return self.job.engines

    @property
    def read(self) -> Any:
        return self.job.read

    @property
    def output(self) -> Path:
        return self.job.output

    def moved(self, output: Path) -> ScriptedJob:
        return replace(self, job=self.job.moved(output))

    def open(self) -> _Work:
        self.deeds.mkdir(exist_ok=True)
        (self.deeds / f"worker-{os.getpid()}").touch()
        return _Work(self.job.open(), self.deeds)


class _Work:
    def __init__(self, work: Work, deeds: Path) -> None:
        self._work, self._deeds = work, deeds

    @property
    def settings(self) -> dict[str, Any]:
        return self._work.settings

    def is_done(self, task: Task) -> bool:
        return self._work.is_done(task)

    def each(self, tasks: Sequence[Task], part: Progress) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            if task.source.name.name == POISON:
                os.kill(os.getpid(), signal.SIGKILL)
            if task.source.name.name == HOLD and not (self._deeds / "hold").exists():
                (self._deeds / "half").write_text(str(os.getpid()))
                (self._deeds / "half").rename(self._deeds / "hold")
                time.sleep(3600)
            yield from self._work.each([task], part)

    def paths(self, source: Source) -> list[Path]:
        return self._work.paths(source)

    def close(self) -> None:
        self._work.close()
