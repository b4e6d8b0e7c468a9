"""A real Triton server on this machine, with what it says of itself."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from samtrt.triton.server import Listening, command, find_server
from support.collector import Collector, collecting


@dataclass
class Running:
    """A server that answers.

    Attributes:
        http, grpc: Its addresses.
        metrics_url: Its page for Prometheus.
        process: Its process.
        log: Where it writes.
        collector: Where its spans go.
    """

    http: str
    grpc: str
    metrics_url: str
    process: subprocess.Popen[bytes]
    log: Path
    collector: Collector

    def figures(self, name: str, model: str) -> dict[str, float]:
        """Return one figure of a model by instance."""
        page = httpx.get(self.metrics_url).text
        line = re.compile(rf'^{name}{{instance="(\w+)",model="{model}",version="1"}} (\S+)$', re.M)
        return {instance: float(value) for instance, value in line.findall(page)}

    def stubs(self, model: str) -> list[int]:
        """Return the processes of a model's instances."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                status = (entry / "status").read_text()
            except OSError:
                continue
            ours = f"PPid:\t{self.process.pid}\n" in status
            if ours and any(f"/{model}/1/model.py".encode() in word for word in words):
                found.append(int(entry.name))
        return found


@contextmanager
def started(repository: Path, log: Path, *more: str) -> Iterator[Running]:
    """Run a server on a repository, with every request traced."""
    installation = find_server()
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        traces = f"{collector.url}/v1/traces"
        tracing = [
            *("--trace-config", "mode=opentelemetry", "--trace-config", "rate=1"),
            *("--trace-config", "level=TIMESTAMPS"),
            *("--trace-config", f"opentelemetry,url={traces}"),
        ]
        environment = {
            **os.environ,
            **installation.environment,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": traces,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        listening = Listening("127.0.0.1", *_free_ports(3))
        words = command(installation, repository, listening, [*tracing, *more])
        process = subprocess.Popen(
            words, env=environment, stdout=stack.enter_context(log.open("wb")), stderr=-2
        )
        stack.callback(_stop, process)
        http = f"http://127.0.0.1:{listening.http_port}"
        _wait_until_ready(http, process, log)
        yield Running(
            http=http,
            grpc=f"grpc://127.0.0.1:{listening.grpc_port}",
            metrics_url=f"http://127.0.0.1:{listening.metrics_port}/metrics",
            process=process,
            log=log,
            collector=collector,
        )


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while True:
        assert process.poll() is None, log.read_text()[-5000:]
        assert time.monotonic() < end, log.read_text()[-5000:]
        try:
            if httpx.get(f"{url}/v2/health/ready").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
