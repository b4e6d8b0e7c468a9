"""One Ray cluster of several nodes for all tests of a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.cluster_cases import Nodes
from support.oracle import random_image

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A head and a node that has room for one worker."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Workers import what tests pickle, and the sources that are under test.
        path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Nodes()
        nodes.add()
        yield nodes
        nodes.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures of 90 x 120."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(8):
        Image.fromarray(random_image(90, 120, seed)).save(folder / f"p{seed}.png")
    return folder
