"""`samtrt serve` as users run it: a process, real sockets, signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from support import fake_runtime
from support.server_cases import image_bytes, wait_for

TOKEN = "token-of-the-process-test"


class Process:
    """A server process on a free port, and what it wrote to its log."""

    def __init__(self, directory: Path, *options: str) -> None:
        command = [*fake_runtime.COMMAND, "serve", str(directory), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SAMTRT_TOKEN": TOKEN},
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: "running on" in self.log or self.process.poll() is not None)
        found = re.search(r"running on http://127.0.0.1:(\d+)", self.log)
        assert found, self.log
        self.port = int(found[1])
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
            trust_env=False,
        )

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log += line

    def wait(self) -> int:
        code = self.process.wait(30)
        self._reader.join(10)
        return code


@pytest.fixture
def running(fake_directory: Path) -> Iterator[Process]:
    process = Process(fake_directory)
    yield process
    process.client.close()
    if process.process.poll() is None:
        process.process.kill()
        process.process.wait(10)


def test_terminating_under_load_finishes_what_was_taken(
    running: Process, picture: np.ndarray
) -> None:
    data = image_bytes(np.tile(picture, (8, 8, 1)))
    stop = threading.Event()
    statuses: list[int] = []
    broken: list[Exception] = []

    def work() -> None:
        with httpx.Client(base_url=running.client.base_url, trust_env=False, timeout=30) as client:
            client.headers = running.client.headers
            while not stop.is_set():
                try:
                    statuses.append(client.post("/v1/images", content=data).status_code)
                except httpx.ConnectError:
                    return  # it takes no new connections any more
                except httpx.HTTPError as error:
                    broken.append(error)
                    return

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(work)
        wait_for(lambda: len(statuses) >= 16)
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0
        stop.set()
    assert set(statuses) == {201}
    # A request that reaches a connection while it closes was never taken: no answer was begun.
    assert all(
        isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
        for error in broken
    )
    served = re.findall(r"POST /v1/images (\d+)", running.log)
    assert served.count("201") == len(statuses)
    assert "Traceback" not in running.log
    assert TOKEN not in running.log


def test_a_client_that_leaves_while_it_uploads(running: Process, picture: np.ndarray) -> None:
    head = (
        f"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
    )
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(head.encode() + b"\x89PNG" + b"\0" * 1000)
    wait_for(lambda: running.log.count("POST /v1/images 499") == 5)
    response = running.client.post("/v1/images", content=image_bytes(picture))
    assert response.status_code == 201
    figures = running.client.get("/metrics").text
    assert 'samtrt_slots_in_use{what="uploads"} 0.0' in figures
    assert "Traceback" not in running.log


@pytest.mark.skipif(sys.platform != "linux", reason="other systems wait in other ways")
def test_connections_wait_in_line_while_the_server_is_busy(running: Process) -> None:
    """One that is turned away is tried again after a second, whoever sent it."""
    running.process.send_signal(signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            for _ in range(300):
                address = ("127.0.0.1", running.port)
                stack.enter_context(socket.create_connection(address, timeout=0.9))
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert running.client.get("/healthz").status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM")
def test_a_stop_ends_in_its_time_whatever_clients_do(
    fake_directory: Path, picture: np.ndarray
) -> None:
    process = Process(fake_directory, "--shutdown", "1")
    image_id = process.client.post("/v1/images", content=image_bytes(picture)).json()["id"]
    head = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    requests = [
        f"GET /v1/images/{image_id}/embedding {head}\r\n",  # and never reads
        f"POST /v1/images {head}Content-Length: 9999\r\n\r\n",  # and never sends
        f"POST /v1/images/{image_id}/auto {head}Content-Type: application/json\r\n"
        'Content-Length: 23\r\n\r\n{"points_per_side": 64}',
        "GET / HTTP/1.1",
        "",
    ]
    with ExitStack() as stack:
        for request in requests * 3:
            address = ("127.0.0.1", process.port)
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(request.encode())
        process.process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    process.client.close()
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--token-file", "/nonexistent"], "cannot read the token"),
        (["--spill-dir", "/proc/nowhere"], "cannot spill"),
        (["--videos", "/nonexistent"], "is no folder"),
        (["--videos", "/"], "vit_t follows no objects through videos"),
    ],
)
def test_bad_options_are_one_line(fake_directory: Path, options: list[str], words: str) -> None:
    done = subprocess.run(
        [*fake_runtime.COMMAND, "serve", str(fake_directory), *options],
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "SAMTRT_TOKEN"},
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(fake_directory: Path) -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "from samtrt.cli import main\n"
        f"sys.exit(main(['serve', {str(fake_directory)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'samtrt[server]'" in done.stderr
    assert done.stderr.count("\n") == 1
