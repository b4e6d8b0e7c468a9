"""A real HTTP server on this machine that serves one file, well or as badly as a test asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """How one request is answered. The default is what a good server does."""

    status: int | None = None  # this status and no file
    drop_after: int | None = None  # bytes of the body after which the connection breaks
    body: bytes | None = None  # instead of the file
    ranges: bool = True  # honour Range
    announce: bool = True  # send Content-Length
    content_range: str | None = None  # instead of the right one


@dataclass
class FileServer:
    """What is served, how the next requests are answered, and what has been asked for."""

    content: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    linked_etag: str | None = None  # as Hugging Face tells a file's hash
    answers: list[Answer] = field(default_factory=list)  # used up one by one
    always: Answer = field(default_factory=Answer)  # after that
    requests: list[dict[str, str]] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def __post_init__(self) -> None:
        self.may_answer.set()

    def ranges(self) -> list[str | None]:
        return [headers.get("range") for headers in self.requests]


@contextmanager
def serve(state: FileServer) -> Iterator[FileServer]:
    """Serve `state` on a free port for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests.append({key.lower(): value for key, value in self.headers.items()})
            answer = state.answers.pop(0) if state.answers else state.always
            state.may_answer.wait(60)
            _answer(self, state, answer)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/weights/tiny.pth"
    try:
        yield state
    finally:
        state.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, state: FileServer, answer: Answer) -> None:
    handler.close_connection = True
    if answer.status is not None:
        handler.send_response(answer.status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    content = state.content if answer.body is None else answer.body
    start = _start(handler, state) if answer.ranges else 0
    handler.send_response(206 if start else 200)
    if start:
        right = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.send_header("Content-Range", answer.content_range or right)
    if answer.announce:
        handler.send_header("Content-Length", str(len(content) - start))
    else:
        handler.send_header("Connection", "close")
    if state.etag:
        handler.send_header("ETag", state.etag)
    if state.last_modified:
        handler.send_header("Last-Modified", state.last_modified)
    if state.linked_etag:
        handler.send_header("X-Linked-ETag", state.linked_etag)
    handler.end_headers()
    if handler.command == "HEAD":
        return
    handler.wfile.write(content[start:][: answer.drop_after])


def _start(handler: BaseHTTPRequestHandler, state: FileServer) -> int:
    """Return the first byte asked for; 0 where the asker has another version of the file."""
    if_range = handler.headers.get("If-Range")
    if if_range is not None and if_range not in (state.etag, state.last_modified):
        return 0
    return int(handler.headers.get("Range", "bytes=0-")[len("bytes=") :].split("-")[0])
