from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from samtrt.checkpoints import transfer
from samtrt.models import seed_weights
from support.checkpoint_cases import SPEC, State
from support.fetch_cases import CONTENT, publish
from support.http_server import FileServer, serve
from support.oracle import official_sam


@pytest.fixture(scope="module")
def seeded() -> State:
    model = official_sam(SPEC)
    seed_weights(model)
    return dict(model.state_dict())


@pytest.fixture
def state(seeded: State) -> State:
    """Official weights of `SPEC`; a test may change the dict, not the tensors."""
    return dict(seeded)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    def torch_save(content: object, **options: Any) -> Path:
        torch.save(content, tmp_path / "sam.pth", **options)
        return tmp_path / "sam.pth"

    return torch_save


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that publishes `CONTENT` as vit_b, and an empty cache."""
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "BACKOFF", 0.0)
    with serve(FileServer(CONTENT)) as running:
        publish(monkeypatch, running.url)
        yield running
