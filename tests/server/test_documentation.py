"""The commands and the code of docs/server.md do what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samtrt.manifest import Manifest
from samtrt.server.settings import Settings
from support.moving_objects import video_manifest
from support.server_cases import Served, live
from support.videos import numbered, write_video

DOCUMENT = Path(__file__).parents[2] / "docs" / "server.md"
ADDRESS = "http://127.0.0.1:8000"


def section(title: str, language: str) -> str:
    """Return the block under a title that talks to a server."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## )", DOCUMENT.read_text(), re.S | re.M)
    assert match, f"no section '{title}'"
    blocks = re.findall(rf"^```{language}\n(.*?)^```", match[1], re.S | re.M)
    return next(block for block in blocks if ADDRESS in block)


@pytest.fixture
def url(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pixels = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    with live(Served(manifest, Settings()).app) as url:
        yield url


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_curl(url: str, tmp_path: Path) -> None:
    script = section("With curl", "sh").replace(ADDRESS, url)
    done = subprocess.run(
        ["bash", "-euxc", script], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"score"') > 5
    assert (tmp_path / "embedding.bin").stat().st_size == 2 * 256 * 16 * 16


def test_python(url: str) -> None:
    names: dict[str, object] = {}
    exec(
        compile(section("From Python", "python").replace(ADDRESS, url), "server.md", "exec"), names
    )
    assert names["refined"].masks.shape == (3, 400, 600)  # type: ignore[attr-defined]


@pytest.fixture
def video_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    write_video(tmp_path / "clip.mp4", numbered(12))
    monkeypatch.chdir(tmp_path)
    with live(Served(video_manifest(), Settings(readers=1)).app) as url:
        yield url


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_curl_with_videos(video_url: str, tmp_path: Path) -> None:
    script = section("Videos", "sh").replace(ADDRESS, video_url)
    done = subprocess.run(
        ["bash", "-euxc", script], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("event: masks") == 12 + 4
    assert (tmp_path / "frame.jpg").read_bytes().startswith(b"\xff\xd8")


def test_python_with_videos(video_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = section("Videos", "python").replace(ADDRESS, video_url)
    exec(compile(code, "server.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 12
