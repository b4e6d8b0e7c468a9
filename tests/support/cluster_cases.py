"""A cluster of several nodes, and jobs whose images do things to the worker that has them."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from samtrt.cluster.run import ClusterRun
from samtrt.datasets.work import Outcome, Progress, Task, Work
from samtrt.sources import Source
from support.oracle import random_image

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


class Running:
    """A run in a thread: nodes can be started by a process's first thread alone."""

    def __init__(self, run: ClusterRun) -> None:
        self.run = run
        self.said: list[str] = []
        self.found: list[tuple[Task, Outcome]] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.found += self.run.outcomes(self.said.append, lambda _: None)
        except BaseException as error:
            self._error = error

    def wait_until(self, happens: Callable[[], bool]) -> None:
        """Wait for something that the run does."""
        end = time.monotonic() + 200
        while not happens():
            if self._error is not None:
                raise self._error
            assert self._thread.is_alive()
            assert time.monotonic() < end
            time.sleep(0.1)

    def end(self) -> dict[str, Outcome]:
        """Wait for the end; return what became of each image by its name, told once."""
        self._thread.join(250)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive()
        by_name = {task.source.name.name: outcome for task, outcome in self.found}
        assert len(by_name) == len(self.found)
        return by_name


def add_picture(folder: Path, name: str, seed: int) -> None:
    Image.fromarray(random_image(90, 120, seed)).save(folder / f"{name}.png")


@dataclass(frozen=True)
class ScriptedJob:
    """A job with such images. It tells its deeds in files of a folder.

    Attributes:
        job: What is done with all other images.
        deeds: `worker-PID` for each process that opens it, `hold` with the process that holds.
    """

    job: Any
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


class Slow:
    """A file system of fsspec that a file can be seen growing on, as on a server of files."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def pipe_file(self, path: str, content: bytes) -> None:
        with self._files.open(path, "wb") as file:
            for start in range(0, len(content), 50_000):
                file.write(content[start : start + 50_000])
                file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)
