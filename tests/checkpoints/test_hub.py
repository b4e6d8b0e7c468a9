"""Names of the Hub, against a server on this machine that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")

import torch
from safetensors.torch import save

from samtrt.backends.pytorch import manifest_of
from samtrt.checkpoints import download, hub
from samtrt.checkpoints.load import load_checkpoint
from samtrt.errors import CheckpointError, DownloadError
from samtrt.models import build_sam, seed_weights
from support.checkpoint_cases import SPEC

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/sam-tiny"


@dataclass
class Hub:
    """One repository, and what was asked of it."""

    files: dict[str, bytes]
    gated: bool = False
    commit: str = COMMIT
    fetched: list[str] = field(default_factory=list)
    url: str = ""


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


@pytest.fixture(scope="module")
def weights() -> bytes:
    sam = build_sam(SPEC)
    seed_weights(sam)
    return bytes(save({name: one.contiguous() for name, one in sam.state_dict().items()}))


@pytest.fixture
def there(weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A repository with weights, their configuration, and what must not be fetched."""
    files = {
        "model.safetensors": weights,
        "pytorch_model.bin": b"a pickle",
        "config.json": b'{"model_type": "sam"}',
        "preprocessor_config.json": json.dumps(
            {
                "image_mean": [0.5] * 3,
                "size": {"longest_edge": 128},
                "pad_size": {"height": 128, "width": 128},
            }
        ).encode(),
        "README.md": b"words",
        "handler.py": b"code",
    }
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with serve(Hub(files)) as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("facebook/sam-vit-base", hub.HubName("facebook/sam-vit-base")),
        ("lkeab/hq-sam/sam_hq_vit_b.pth", hub.HubName("lkeab/hq-sam", "sam_hq_vit_b.pth")),
        ("a/b@main", hub.HubName("a/b", None, "main")),
        ("a/b/c/d.pt@v1.0", hub.HubName("a/b", "c/d.pt", "v1.0")),
        *(
            (text, None)
            for text in ("vit_b", "a/../b", "/a/b", "a/b/c", "a/b/c.bin", "a/", "a b/c")
        ),
    ],
)
def test_names(text: str, name: hub.HubName | None) -> None:
    assert hub.parse(text) == name


def test_weights_and_configuration_alone_are_fetched(there: Hub) -> None:
    path = download.resolve(REPO)
    expected = {"model.safetensors", "config.json", "preprocessor_config.json"}
    assert set(there.fetched) == expected == {each.name for each in path.iterdir()}
    checkpoint = load_checkpoint(path)
    assert checkpoint.preparation.mean == (0.5, 0.5, 0.5)
    source = manifest_of(checkpoint).checkpoint
    assert (source.name, source.hub) == (REPO, f"{REPO}@{COMMIT}")
    there.fetched.clear()
    assert download.fetch(f"{REPO}@{COMMIT}") == path
    assert there.fetched == [], "it is in the cache"


def test_offline(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="not in the cache and the Hub is out of reach"):
        download.resolve(REPO)
    monkeypatch.setenv("HF_ENDPOINT", there.url)
    path = download.resolve(REPO)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert download.resolve(REPO) == path
    assert download.resolve(f"{REPO}@{COMMIT}") == path


def test_one_file_of_several(there: Hub, tmp_path: Path) -> None:
    sam = build_sam(SPEC)
    seed_weights(sam)
    torch.save(sam.state_dict(), tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    there.files = {"a.pth": content, "b/c.pt": content, "readme": b""}
    with pytest.raises(CheckpointError, match=rf"2 weight files: name one, such as {REPO}/a\.pth"):
        download.resolve(REPO)
    path = download.resolve(f"{REPO}/b/c.pt")
    assert path.name == "c.pt"
    assert there.fetched == ["b/c.pt"]
    assert load_checkpoint(path).spec == SPEC
    assert hub.origin_of(path) == f"{REPO}@{COMMIT}"
    there.files = {"a.pth": content}
    there.commit = COMMIT[::-1]
    assert download.resolve(REPO).name == "a.pth"
    with pytest.raises(CheckpointError, match=r"holds no file d\.pt"):
        download.resolve(f"{REPO}/d.pt")


def test_what_cannot_be_had_is_one_clear_line(there: Hub) -> None:
    there.files = {"pytorch_model.bin": b"a pickle"}
    with pytest.raises(CheckpointError, match="loading them may run code"):
        download.resolve(REPO)
    with pytest.raises(DownloadError, match="no revision 'v9'"):
        download.resolve(f"{REPO}@v9")
    with pytest.raises(DownloadError, match="no such repository on the Hub, or it is private"):
        download.resolve("someone/else")
    there.gated = True
    with pytest.raises(DownloadError, match=r"is gated: accept its terms at .* 'hf auth login'"):
        download.resolve(REPO)


def test_paths_come_first(there: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / REPO
    folder.mkdir(parents=True)
    assert download.resolve(REPO) == Path(REPO)
    assert there.fetched == []
    assert hub.origin_of(folder) is None
