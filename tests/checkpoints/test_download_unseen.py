"""Published files whose size and hash the registry does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from samtrt.checkpoints.download import fetch, resolve
from samtrt.errors import CheckpointError
from samtrt.files import cache_dir
from support.fetch_cases import CONTENT, DIGEST, publish_unseen, refused
from support.http_server import Answer, FileServer


@pytest.fixture
def unseen(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    publish_unseen(monkeypatch, server.url)
    return server


def kept() -> list[str]:
    """Return what is in the cache beside the lock."""
    return sorted(path.name for path in cache_dir().iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("linked", [None, f'"{DIGEST}"'])
def test_what_came_first_is_noted_and_held_to(unseen: FileServer, linked: str | None) -> None:
    unseen.linked_etag = linked
    path = fetch("vit_b")
    assert path.read_bytes() == CONTENT
    assert kept() == ["tiny.pth", "tiny.pth.json"]
    asked = len(unseen.requests)
    assert fetch("vit_b") == resolve("vit_b") == path
    assert len(unseen.requests) == asked
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(CheckpointError, match="damaged in the cache; run: samtrt fetch vit_b"):
        resolve("vit_b")
    unseen.content = CONTENT + b"another version"
    refused("expected 200000", "the published file has changed")


def test_the_servers_hash_is_held_to(unseen: FileServer) -> None:
    unseen.linked_etag = f'"{DIGEST[::-1]}"'
    refused(f"has sha256 {DIGEST}, expected {DIGEST[::-1]}")
    assert kept() == []


@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html><title>Log in to this network</title>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 40728226\n",
        b"{}",
        b"",
    ],
)
def test_a_page_in_its_place_is_not_noted(unseen: FileServer, page: bytes) -> None:
    unseen.always = Answer(body=page)
    refused(f"answered with {len(page)} bytes that are no checkpoint", "login page")
    assert kept() == []
    unseen.always = Answer()
    assert fetch("vit_b").read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(status=500), Answer(announce=False)])
def test_a_server_that_tells_no_size(unseen: FileServer, answer: Answer) -> None:
    unseen.always = answer
    refused("the server answered", "and told no size")
    assert kept() == []


def test_a_note_that_is_damaged_is_made_again(unseen: FileServer) -> None:
    path = fetch("vit_b")
    Path(f"{path}.json").write_text("{")
    assert fetch("vit_b").read_bytes() == CONTENT
    assert len(unseen.requests) == 4
