"""The server's masks where the decoder leaves logits on a GPU: as on the host, and formed there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.masks.forming import HostFormer
from samtrt.predictor import Predictor
from samtrt.server.metrics import Metrics
from samtrt.server.scheduler import Scheduler
from samtrt.server.schemas import Candidate
from samtrt.server.settings import Settings
from support.blobs import blob_predictor
from support.on_device import on_device
from support.oracle import random_image
from support.places import PLACES
from support.samples import make_manifest

PROMPTS = [
    {"points": [[30, 40]]},
    {"points": [[90, 20], [10, 100]], "labels": [1, 0]},
    {"box": [20, 30, 150, 120]},
    {"points": [[180, 10]]},
]


def answers(predictor: Predictor, image: np.ndarray, **request: Any) -> list[list[Candidate]]:
    """Ask a server's scheduler; return its candidates."""

    async def ask() -> list[list[Candidate]]:
        scheduler = Scheduler(predictor, Settings(readers=1), Metrics())
        try:
            image_id = scheduler.store.add(predictor.encode(image))
            body = json.dumps({"prompts": PROMPTS, **request}).encode()
            return (await scheduler.answer(image_id, body))[0]
        finally:
            scheduler.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "request_",
    [
        {"candidates": 3},
        {"candidates": 4, "best_only": True},
        {"candidates": 1, "format": "png"},
        {"candidates": 3, "specks": 8},
        {"candidates": 1, "low_res_logits": True},
    ],
    ids=str,
)
def test_candidates_are_those_of_the_host(
    monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any], place: str
) -> None:
    host, image = blob_predictor(make_manifest()), random_image(150, 200)
    wanted = answers(host, image, **request_)
    assert any(one.area for each in wanted for one in each)
    monkeypatch.delattr(HostFormer, "encode")
    with on_device(monkeypatch, host, place) as (predictor, _):
        got = answers(predictor, image, **request_)
    assert got == wanted
