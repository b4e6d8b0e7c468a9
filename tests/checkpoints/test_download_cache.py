from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samtrt.checkpoints.download import fetch, resolve
from samtrt.errors import CheckpointError
from samtrt.files import cache_dir
from support.fetch_cases import CONTENT, DIGEST
from support.http_server import FileServer


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"?", b""])
def test_a_damaged_cached_file_is_fetched_again(server: FileServer, content: bytes) -> None:
    path = fetch("vit_b")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged in the cache; run: samtrt fetch vit_b"):
        resolve("vit_b")
    assert fetch("vit_b").read_bytes() == CONTENT
    assert len(server.requests) == 2


CHILD = """
import sys
from dataclasses import replace
from samtrt.checkpoints import download
from samtrt.registry import MODELS, Download
url, size, digest = sys.argv[1:]
MODELS["vit_b"] = replace(MODELS["vit_b"], download=Download(url, int(size), digest, ""))
print("ready", flush=True)
print(download.fetch("vit_b"))
"""


def test_processes_that_fetch_at_once_download_once(server: FileServer) -> None:
    server.may_answer.clear()
    command = [sys.executable, "-c", CHILD, server.url, str(len(CONTENT)), DIGEST]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    server.may_answer.set()
    for child in children:
        output, errors = child.communicate(timeout=60)
        assert (child.returncode, output.strip()) == (0, str(cache_dir() / "tiny.pth")), errors
    assert (cache_dir() / "tiny.pth").read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.usefixtures("server")
def test_a_terminal_gets_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    fetch("vit_b")
    assert "tiny.pth" in terminal.getvalue()
    assert "200.0/200.0 kB" in terminal.getvalue()


@pytest.mark.usefixtures("server")
def test_no_terminal_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fetch("vit_b")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("server")
def test_resolve_prefers_what_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.pth"
    file.touch()
    assert resolve(str(file)) == file
    assert resolve(str(tmp_path)) == tmp_path
    monkeypatch.chdir(tmp_path)
    Path("vit_b").touch()
    assert resolve("vit_b") == Path("vit_b")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("vit_b", r"not downloaded yet; run: samtrt fetch vit_b"),
        ("nowhere/sam.pth", r"no file or directory 'nowhere/sam.pth'.*vit_b"),
        ("vit_t", r"no checkpoint is published for vit_t.*vit_b, vit_l, vit_h.*file"),
    ],
)
def test_resolve_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        resolve(asked)


@pytest.mark.parametrize(("name", "said"), [("vit_x", "unknown model"), ("vit_t", "published")])
def test_only_published_models_are_fetched(name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        fetch(name)


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMTRT_CACHE", os.path.join("~", "weights"))  # noqa: PTH118
    assert cache_dir() == Path.home() / "weights"
    monkeypatch.delenv("SAMTRT_CACHE")
    assert cache_dir().name == "samtrt"


def test_needs_no_torch() -> None:
    code = "import sys, samtrt.checkpoints.download; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
