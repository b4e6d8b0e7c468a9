"""A run on a Ray cluster, from the command's side: it starts `driver`, and again after a loss."""

from __future__ import annotations

import contextlib
import pickle
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import IO, Any

from samtrt import tracing
from samtrt.cluster.messages import (
    Alive,
    Connected,
    Ended,
    Message,
    Opened,
    Refused,
    Request,
    Said,
    Told,
    parse,
)
from samtrt.datasets.work import Job, Outcome, State, Task
from samtrt.errors import ClusterError, MissingExtraError

ATTEMPTS = 3
"""Connections in a row that bring no image before the run is given up."""
PROBE_SECONDS = 5.0
"""Of silence, after which it is asked whether the head's port is open."""
MISSES = 2
"""Times in a row that it is not, after which the cluster counts as lost."""


class ClusterRun:
    """Images done by the workers of a cluster, each told once.

    Attributes:
        settings: What results depend on, when an image is done.
    """

    def __init__(
        self,
        job: Job,
        tasks: Sequence[Task],
        address: str,
        patience: float = 60.0,
        longest_wait: float = 600.0,
    ) -> None:
        """Check the address.

        Args:
            job: What to do.
            tasks: The images.
            address: HOST:PORT of the cluster's head, "auto" or "local".
            patience: Seconds without a sign of life after which the cluster counts as lost.
            longest_wait: Seconds that the head of a lost cluster has to be back.

        Raises:
            MissingExtraError: where Ray is not installed.
            ClusterError: where nothing answers at the address.
        """
        self._job, self._tasks, self._address = job, tasks, check_address(address)
        self._patience, self._longest_wait = patience, longest_wait
        self._left = dict(enumerate(tasks))
        self._head: str | None = address if ":" in address else None
        self.settings: dict[str, Any] = {}

    def outcomes(
        self, tell: Callable[[str], None], at: Callable[[float], None]
    ) -> Iterator[tuple[Task, Outcome]]:
        """Yield what became of each image, in the order of their ends.

        Args:
            tell: Takes lines for the user.
            at: Takes how many images are done.

        Raises:
            ClusterError: where the run cannot be done, or the cluster is lost and stays so.
        """
        fruitless = 0
        while self._left:
            before = len(self._left)
            lost = yield from self._connected(tell, at)
            if not self._left:
                return
            fruitless = 0 if len(self._left) < before else fruitless + 1
            if fruitless >= ATTEMPTS:
                raise ClusterError(self._given_up(lost))
            tell(f"the cluster was lost ({lost}): waiting for it")
            self._wait_for_head(lost)

    def _connected(
        self, tell: Callable[[str], None], at: Callable[[float], None]
    ) -> Generator[tuple[Task, Outcome], None, str]:
        """Do images until all are done or the cluster is lost; return why it is."""
        earlier = len(self._tasks) - len(self._left)
        with _Driver(self._request()) as driver:
            while True:
                match self._next(driver):
                    case None:
                        return driver.why()
                    case Connected(address):
                        self._head = address
                    case Opened(settings):
                        self._check_settings(settings)
                    case Alive(images):
                        at(earlier + images)
                    case Said(line):
                        tell(line)
                    case Told() as told if told.task in self._left:
                        for line in told.notes:
                            tell(line)
                        yield self._outcome(told)
                    case Refused(reason, lost):
                        if not lost:
                            raise ClusterError(reason)
                        return reason
                    case Ended():
                        return ""

    def _next(self, driver: _Driver) -> Message | None:
        """Return what the process says next; None where it died, or the cluster is lost."""
        end = time.monotonic() + self._patience
        misses = 0
        while time.monotonic() < end and misses < MISSES:
            try:
                return driver.next(PROBE_SECONDS)
            except queue.Empty:
                gone = self._head is not None and not _answers(self._head)
                misses = misses + 1 if gone else 0
        return None

    def _outcome(self, told: Told) -> tuple[Task, Outcome]:
        task = self._left.pop(told.task)
        if told.state is State.FAILED:
            line, path = told.error, task.source.path
            if not task.source.place:
                line = line.replace(str(path.absolute()), str(path))
            return task, Outcome(told.state, error=ClusterError(line))
        return task, Outcome(told.state, told.masks)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        if self.settings and self.settings != settings:
            raise ClusterError("the cluster came back with other engines: run the command again")
        self.settings.update(settings)

    def _request(self) -> Request:
        # Workers have another working directory.
        job = self._job.moved(self._job.output.absolute())
        tasks = [(number, _absolute(task)) for number, task in self._left.items()]
        engines = job.engines
        return Request(
            self._address,
            pickle.dumps(job),
            engines.directory,
            engines.threads or 1,
            int(engines.on_gpu),
            tasks,
            tracing.carried(),
        )

    def _wait_for_head(self, lost: str) -> None:
        """Wait until the head's port is open again."""
        end = time.monotonic() + self._longest_wait
        while self._head is not None and not _answers(self._head):
            if time.monotonic() > end:
                raise ClusterError(self._given_up(lost))
            time.sleep(1.0)

    def _given_up(self, lost: str) -> str:
        return (
            f"the cluster at {self._address} was lost and is not back ({lost}): {len(self._left)} "
            f"of {len(self._tasks)} images are left; run it again, which skips what is done"
        )


class _Driver:
    """A process that talks to Ray, and what it says."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._said: queue.Queue[Message | None] = queue.Queue()

    def __enter__(self) -> _Driver:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "samtrt.cluster.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for the command, which ends it
        )
        for work in (self._give, self._listen):
            threading.Thread(target=work, daemon=True).start()
        return self

    def _give(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died, which is noticed where it is listened to
            pickle.dump(self._request, self._process.stdin)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(parse(line.decode()))
        self._said.put(None)

    def next(self, seconds: float) -> Message | None:
        """Return what it says next; None where it died.

        Raises:
            queue.Empty: where it says nothing for so many seconds.
        """
        return self._said.get(timeout=seconds)

    def why(self) -> str:
        """Say why it said no more.

        Raises:
            RuntimeError: where that is a mistake of ours, with its trace.
        """
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        self._log.seek(0)
        text = self._log.read().decode("utf-8", "replace")
        trace = text.rpartition("Traceback (most recent call last):")
        if trace[1] and self._process.returncode == 1 and "GCS" not in trace[2]:
            raise RuntimeError(f"the run's process failed:\n{trace[1]}{trace[2]}")
        return "it does not answer"

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):
                assert stream is not None
                stream.close()
        self._log.close()


def _absolute(task: Task) -> Task:
    if task.source.place:
        return task
    return replace(task, source=replace(task.source, path=task.source.path.absolute()))


def check_address(address: str) -> str:
    """Return the address of a cluster.

    Raises:
        MissingExtraError: where Ray is not installed.
        ClusterError: where it is none, or nothing answers there.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("--ray", "ray", "ray")
    if address in ("auto", "local"):
        return address
    if address.startswith(("ray://", "http://", "https://")):
        raise ClusterError(
            f"--ray takes HOST:PORT, 'auto' or 'local', not {address}: to run on a cluster that "
            "this machine is not in, submit the command with 'ray job submit -- samtrt ... --ray "
            "auto'"
        )
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ClusterError(
            f"--ray takes HOST:PORT of a cluster's head, 'auto' or 'local', not {address}"
        )
    if not _answers(address):
        raise ClusterError(
            f"no Ray cluster answers at {address}: start one with 'ray start --head', or correct "
            "the address"
        )
    return address


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0):
            return True
    except OSError:
        return False
