"""A server on this machine that answers as the Hugging Face Hub does, for one repository."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/sam-tiny"


@dataclass
class Hub:
    """One repository, and what was asked of it.

    Attributes:
        files: Their content by name.
        gated: Whether its terms were not accepted.
        commit: Where its branch is.
        fetched: Names of files, as they were downloaded.
        url: Of the server.
        failing: Whether it tells which files there are and then sends none.
    """

    files: dict[str, bytes]
    gated: bool = False
    commit: str = COMMIT
    fetched: list[str] = field(default_factory=list)
    url: str = ""
    failing: bool = False


@contextmanager
def serve(state: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].lstrip("/")
            if not path.removeprefix("api/models/").startswith(REPO):
                return self._refuse(404, "RepoNotFound")
            if state.gated:
                return self._refuse(403, "GatedRepo")
            if path.startswith("api/models/"):
                revision = path.partition("/revision/")[2] or "main"
                if revision not in ("main", state.commit):
                    return self._refuse(404, "RevisionNotFound")
                siblings = [{"rfilename": name} for name in state.files]
                about = {"id": REPO, "sha": state.commit, "siblings": siblings}
                body = json.dumps(about).encode()
                return self._send(200, body, {"Content-Type": "application/json"})
            name = path.partition(f"/resolve/{state.commit}/")[2]
            if state.failing:
                return self._send(410, b"", {})
            if name not in state.files:
                return self._refuse(404, "EntryNotFound")
            content = state.files[name]
            if self.command == "GET":
                state.fetched.append(name)
            etag = hashlib.sha256(content).hexdigest()
            return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": state.commit})

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
