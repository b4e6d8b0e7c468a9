"""Repositories of the tiny model. (A folder named `triton` would be PyTorch's `import triton`.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samtrt.triton.repository import RepositoryOptions, write_repository
from support.fake_triton import FakeTriton


@pytest.fixture
def in_triton(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., FakeTriton]]:
    """Run the repository of a model directory within Triton's stand-in."""
    started: list[FakeTriton] = []

    def start(directory: Path, **options: object) -> FakeTriton:
        write_repository(directory, tmp_path / "models", RepositoryOptions(**options))
        fake = FakeTriton(tmp_path / "models").install(monkeypatch)
        started.append(fake)
        return fake

    yield start
    for fake in started:
        fake.close()
