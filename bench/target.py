"""A server as a process of its own, watched from outside: its memory, its health, its end."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TICK = 0.25


class Target:
    """`samtrt serve`, and what was seen of it.

    Attributes:
        peak: Most memory of its processes together, MiB: each page that several share once.
        parts: What each of them took then.
        samples: What all took, every `TICK` seconds, MiB.
        slowest: Longest time that /healthz took, seconds.
        unhealthy: How often /healthz failed.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        command = [sys.executable, "-m", "samtrt", "serve", str(directory), "--port", "0", *options]
        self.log_file = Path(tempfile.mkstemp(prefix="samtrt-serve-", suffix=".log")[1])
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)
        while "running on" not in (text := self.log_file.read_text()):
            if self.process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{text}")
            time.sleep(0.05)
        self.port = int(text.split("running on http://127.0.0.1:")[1].split()[0])
        self.url = f"http://127.0.0.1:{self.port}"
        self.parts: list[int] = []
        self.samples: list[float] = []
        self.start = self.peak = sum(self.memory())
        self.slowest, self.unhealthy, self.asked = 0.0, 0, 0
        self.worst = ""
        self.what = "start"
        self._watching = True
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._weigh, self._ask)
        ]
        for thread in self._threads:
            thread.start()

    def memory(self) -> list[float]:
        """Return what each of the server's processes takes, MiB; the server itself first."""
        found = []
        for pid in family(self.process.pid):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue  # it ended
            found += [int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")]
        return found

    def _weigh(self) -> None:
        while self._watching:
            self.samples.append(sum(parts := self.memory()))
            if self.samples[-1] > self.peak:
                self.peak, self.worst = self.samples[-1], self.what
                self.parts = [round(part) for part in parts]
            time.sleep(TICK)

    def _ask(self) -> None:
        while self._watching:
            start = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", "/healthz")
                healthy = connection.getresponse().status == 200
                connection.close()
            except (OSError, http.client.HTTPException):
                healthy = False
            if not self._watching:
                return
            self.asked += 1
            self.unhealthy += not healthy
            self.slowest = max(self.slowest, time.monotonic() - start)
            time.sleep(TICK)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, most: float) -> tuple[float, int | None]:
        """Send SIGTERM; return the seconds until it ended and its exit code, None if killed."""
        self._watching = False
        for thread in self._threads:
            thread.join(15)
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code: int | None = self.process.wait(most)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = None
        return time.monotonic() - start, code


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        for task in _entries(Path(f"/proc/{one}/task")):
            try:
                queue += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
