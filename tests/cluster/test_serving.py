"""`samtrt serve --ray` on a real cluster: replicas behind one address, and one of them killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from samtrt.client import Client
from samtrt.predictor import Predictor
from support.cluster_cases import Nodes, free_port
from support.collector import Collector, Seen, collecting
from support.oracle import random_image
from support.server_cases import wait_for

TOKEN = "0123456789abcdef"


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where the server's spans go."""
    with collecting() as collector:
        yield collector


@pytest.fixture
def url(nodes: Nodes, collector: Collector, tiny_model: Path, tmp_path: Path) -> Iterator[str]:
    """A server with two replicas, each on a node of its own."""
    port = free_port()
    nodes.room_for(2)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "samtrt", "serve", tiny_model, "--ray", nodes.address),
            *("--replicas", "2", "--images", tmp_path / "images", "--port", str(port)),
        ],
        env={
            **os.environ,
            "SAMTRT_TOKEN": TOKEN,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "serves on port" in process.stdout.readline()
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_replicas_answer_as_the_predictor_and_one_dies(
    url: str, collector: Collector, tiny_model: Path, nodes: Nodes
) -> None:
    images = [random_image(60, 80, seed) for seed in range(3)]
    points, labels = [[40, 30]], [1]
    with Predictor.load(tiny_model) as predictor, Client(url, TOKEN) as client:
        expected = []
        for image in images:
            predictor.set_image(image)
            expected.append(predictor.predict(points, labels))
        remote = [client.upload(image) for image in images]
        for one, other in zip(remote, expected, strict=True):
            found = one.predict(points, labels)
            assert np.array_equal(found.masks, other.masks)
            assert np.allclose(found[1], other[1], atol=1e-5)
        for pid in nodes.processes("ServeReplica:samtrt:model"):
            os.kill(pid, signal.SIGKILL)
        ids = [one.id for one in remote]
        for one, other in zip(remote, expected, strict=True):
            assert np.array_equal(one.predict(points, labels).masks, other.masks)
        assert [one.id for one in remote] == ids  # brought back, not uploaded again
        remote[0].delete()
        path = f"{url}/v1/images/{ids[0]}/masks"
        prompt = {"prompts": [{"points": points}]}
        again = httpx.post(path, json=prompt, headers={"Authorization": f"Bearer {TOKEN}"})
        assert again.status_code == 404
        assert httpx.post(path, json=prompt).status_code == 401
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    check_trace(f"{url}/v1/images/{ids[1]}/masks", prompt, collector)


def check_trace(path: str, prompt: Any, collector: Collector) -> None:
    """Ask with a span of ours around it; the replica's decoding is within it."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"Authorization": f"Bearer {TOKEN}", "traceparent": f"00-{trace}-{span}-01"}
    assert httpx.post(path, json=prompt, headers=headers).status_code == 200

    def found() -> dict[str, Seen]:
        return {one.name: one for one in collector.spans() if one.trace == trace}

    route = "POST /v1/images/{image_id}/masks"
    wait_for(lambda: {"POST of an image", route, "samtrt.decode"} <= set(found()))
    ingress, replica, decode = (
        found()[name] for name in ("POST of an image", route, "samtrt.decode")
    )
    assert (ingress.service, ingress.parent) == ("samtrt ingress", span)
    assert (replica.service, replica.parent) == ("samtrt replica", ingress.id)
    assert decode.parent == replica.id
