"""A small file that is published as vit_b, and ways to ask for it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from samtrt.checkpoints.download import cache_dir, fetch
from samtrt.errors import DownloadError
from samtrt.registry import MODELS, Download

CONTENT = b"PK\x03\x04" + random.Random(0).randbytes(199_996)
CLIENT = httpx.Client(trust_env=False)  # making one takes longer than a download here
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    download = Download(url, len(CONTENT), DIGEST, "Apache-2.0")
    monkeypatch.setitem(MODELS, "vit_b", replace(MODELS["vit_b"], download=download))


def publish_unseen(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Publish it without a size and a hash, as of files that were not seen."""
    download = Download(url, None, None, "Apache-2.0")
    monkeypatch.setitem(MODELS, "vit_b", replace(MODELS["vit_b"], download=download))


def part() -> Path:
    return cache_dir() / "tiny.pth.part"


def put_part(content: bytes, validator: str | None = None) -> None:
    cache_dir().mkdir(parents=True)
    part().write_bytes(content)
    if validator is not None:
        part().with_name("tiny.pth.part.validator").write_text(validator)


def refused(*parts: str) -> None:
    """Fetch, expect a one-line `DownloadError` that says all of `parts`, and no file."""
    with pytest.raises(DownloadError) as caught:
        fetch("vit_b")
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message
    assert not (cache_dir() / "tiny.pth").exists()
