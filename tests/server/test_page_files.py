"""The page's files as they are shipped."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from samtrt_page import STATIC

WEB = Path(__file__).parents[2] / "web"


@pytest.mark.skipif(not WEB.is_dir(), reason="the page's sources are not here")
def test_the_page_is_built_from_its_sources() -> None:
    digest = hashlib.sha256()
    names = [f"src/{path.name}" for path in (WEB / "src").iterdir()]
    for name in sorted([*names, "build.mjs", "package.json"]):
        digest.update(f"{name}\0".encode() + (WEB / name).read_bytes())
    built = (STATIC / "sources.sha256").read_text().strip()
    assert built == digest.hexdigest(), "the page is out of date: run `make web`"


def test_the_page_asks_nobody_else() -> None:
    """Works offline: no file of the page names another host to load from."""
    names = [path.name for path in STATIC.iterdir() if path.suffix in (".html", ".css", ".js")]
    # The workers hold the runtime, which has addresses in its messages.
    ours = [name for name in names if not name.startswith("worker-")]
    assert {"index.html", "style.css", "main.js"} < set(ours)
    for name in ours:
        text = (STATIC / name).read_text()
        hosts = set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org"}  # SVG's namespace
        assert not hosts, name


def test_others_work_is_named() -> None:
    notice = (STATIC / "NOTICE.txt").read_text()
    assert "onnxruntime-web" in notice
    assert "MIT License" in notice
