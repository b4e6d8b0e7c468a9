"""One Ray cluster of several nodes, and one S3 server, for all tests of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.cluster_cases import Nodes, free_port
from support.oracle import random_image

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """Address of a bucket that all processes reach, in a server that is one of them."""
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "a-test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        end = time.monotonic() + 60
        while True:
            try:
                fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
                break
            except Exception:  # it does not listen yet
                assert server.poll() is None
                assert time.monotonic() < end
                time.sleep(0.5)
        yield "s3://bucket"
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def nodes(bucket: str) -> Iterator[Nodes]:
    """A head and a node that has room for one worker; all know where the bucket is."""
    assert bucket
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
