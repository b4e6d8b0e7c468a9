"""Stand-ins for TensorRT and CUDA; those that use them need cuda-bindings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.fake_cuda_streams import Cuda


@pytest.fixture
def directory(fake_directory: Path) -> Path:
    """A model directory with engines for up to 4 prompts of 6 points."""
    from support import fake_tensorrt

    fake_tensorrt.write_engines(fake_directory)
    return fake_directory


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """A GPU for one test, after which nothing may be left in it."""
    from support import fake_tensorrt

    fake = fake_tensorrt.install(monkeypatch, devices=2)
    yield fake
    fake_tensorrt.check_left_clean(fake)
