"""Clients that say nothing, too little or read nothing, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from samtrt.manifest import Manifest
from samtrt.server.settings import Settings
from support.samples import make_manifest
from support.server_cases import Served, image_bytes, live

LIMITS = Settings(
    max_connections=20,
    header_seconds=1,
    idle_seconds=1,
    stall_seconds=1,
    request_seconds=3,
    answer_seconds=5,
    max_upload_bytes=1 << 20,
)
HEAD = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One server for all of these; its embeddings are larger than what a socket buffers."""
    served = Served(make_manifest(), LIMITS)
    with live(served.app, LIMITS) as url:
        yield url


@contextmanager
def connect(url: str, *parts: bytes) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as one:
        # Small, so that little is taken for a client that does not read.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(30)
        one.connect((host, int(port)))
        for part in parts:
            one.sendall(part)
        yield one


def end_of(one: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection, by whatever way."""
    found = b""
    try:
        while part := one.recv(1 << 16):
            found += part
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: local",
        b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\nGET /healthz HT",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_a_head_that_does_not_end(server: str, sent: bytes) -> None:
    with connect(server, sent) as one:
        assert end_of(one).count(b"200 OK") == sent.count(b"\r\n\r\n")


def test_a_head_that_is_dribbled(server: str) -> None:
    with connect(server, b"GET /healthz HTTP/1.1\r\nX-Slow: ") as one:
        one.settimeout(0.2)
        for _ in range(150):
            try:
                one.sendall(b"a")
                if one.recv(100) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("it may go on for ever")


@pytest.mark.parametrize("path", [b"/v1/images", b"/v1/images/nobody/masks"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_does_not_come(server: str, path: bytes, chunked: bool) -> None:
    kind = b"image/png" if path.endswith(b"images") else b"application/json"
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 9999"
    head = b"POST " + path + b" HTTP/1.1\r\n" + HEAD + b"Content-Type: " + kind + b"\r\n"
    with connect(server, head + length + b"\r\n\r\n") as one:
        assert b" 408 " in end_of(one).split(b"\r\n")[0]


def test_a_body_that_is_dribbled(server: str) -> None:
    head = b"POST /v1/images HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999\r\n\r\n"
    with connect(server, head) as one:
        one.settimeout(0.2)
        for _ in range(150):
            try:
                one.sendall(b"a")
                answer = one.recv(100)
            except TimeoutError:
                continue
            assert answer.startswith(b"HTTP/1.1 408 ")
            return
    pytest.fail("it may go on for ever")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_nobody_wants(server: str, chunked: bool) -> None:
    """Refused by its head alone; the rest that does not come is not waited for."""
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 99999999"
    head = b"POST /v1/images HTTP/1.1\r\n" + HEAD + b"Content-Type: text/html\r\n"
    with connect(server, head + length + b"\r\n\r\n") as one:
        assert end_of(one).startswith(b"HTTP/1.1 4")


def large_answers() -> list[bytes]:
    wasm = next(
        path for path in (Path(__file__).parents[2] / "src/samtrt_page/static/ort").rglob("*.gz")
    )
    name = f"/static/ort/{wasm.parent.name}/{wasm.stem}".encode()
    return [name + b" HTTP/1.1\r\nAccept-Encoding: " + coding for coding in (b"gzip", b"identity")]


@pytest.mark.parametrize("which", [0, 1])
def test_an_answer_that_is_not_taken(server: str, which: int) -> None:
    with connect(server, b"GET " + large_answers()[which] + b"\r\n" + HEAD + b"\r\n") as one:
        one.settimeout(60)
        # Nothing is read until the server gave up, which shows as a broken connection on writing.
        for _ in range(600):
            try:
                one.sendall(b"\r\n")
            except ConnectionError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("it waits for ever")


def test_silent_connections_lock_nobody_out(server: str, picture: np.ndarray) -> None:
    host, port = server.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port)), 10) for _ in range(60)]
    try:
        with httpx.Client(base_url=server, trust_env=False, timeout=30) as client:
            for _ in range(5):
                assert client.post("/v1/images", content=image_bytes(picture)).status_code == 201
    finally:
        for one in silent:
            one.close()


def test_work_is_not_cut_off_by_the_limits_of_connections(
    picture: np.ndarray, manifest: Manifest
) -> None:
    """A request that is being worked on is not idle, however long that takes."""
    served = Served(manifest, Settings(stall_seconds=0.2, header_seconds=0.2, idle_seconds=0.2))
    served.encoder.open.clear()
    with live(served.app, served.settings) as url:
        threading.Timer(2, served.encoder.open.set).start()
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            assert client.post("/v1/images", content=image_bytes(picture)).status_code == 201
