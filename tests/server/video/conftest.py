"""A server that follows objects without weights, and a small video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from samtrt.server.settings import Settings
from support.moving_objects import video_manifest
from support.server_cases import Served
from support.videos import numbered, write_video

COUNT = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames of 64 x 48."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", numbered(COUNT))


@pytest.fixture
def serve_video(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start an application with the given `Settings`."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Served:
            given = {"readers": 1, "spill_dir": tmp_path / "spill", **settings}
            served = Served(video_manifest(), Settings(**given))
            stack.enter_context(served.client)
            stack.callback(served.video.open.set)
            return served

        yield start
