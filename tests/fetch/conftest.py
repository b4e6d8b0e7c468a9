from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fetch_cases import CONTENT, publish
from http_server import FileServer, serve
from samtrt import fetch as fetching


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that publishes `CONTENT` as vit_b, and an empty cache."""
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "BACKOFF", 0.0)
    with serve(FileServer(CONTENT)) as running:
        publish(monkeypatch, running.url)
        yield running
