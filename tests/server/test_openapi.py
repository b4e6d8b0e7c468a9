"""schemathesis plays every operation of the server's own OpenAPI document against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from samtrt.preparation.frame import Frame
from samtrt.server.app import create_app
from samtrt.types import Embedding
from samtrt.video.predictor import VideoPredictor
from support.fake_runtime import fake_predictor
from support.moving_objects import MovingObjects, video_manifest
from support.server_cases import live
from support.videos import numbered, write_video

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def fake_app() -> Any:
    manifest = video_manifest()
    predictor = fake_predictor(manifest)
    video = VideoPredictor(MovingObjects(manifest, predictor.encoder), fill_hole_area=0)
    return create_app(predictor, video=video)


app = fake_app()
schema = schemathesis.openapi.from_dict(app.openapi())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with live(app) as url:
        yield url


@pytest.fixture(scope="module")
def image_id() -> str:
    features = np.zeros((1, 256, 16, 16), dtype=np.float32)
    return str(app.state.scheduler.store.add(Embedding(features, Frame((120, 200), 256, 64))))


@pytest.fixture(scope="module")
def video_id(url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_video(tmp_path_factory.mktemp("video") / "clip.mp4", numbered(4))
    answer = httpx.post(f"{url}/v1/videos", content=path.read_bytes(), timeout=120).json()
    said = {"frame": 0, "object": 1, "box": [8, 12, 24, 36]}
    httpx.post(f"{url}/v1/videos/{answer['id']}/prompts", json=said, timeout=120)
    return str(answer["id"])


@pytest.mark.long
@schema.parametrize()
@settings(
    max_examples=10,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_operation_fails(case: Any, url: str, image_id: str, video_id: str) -> None:
    # Half of the cases ask about what exists, so that they get past the look-up.
    is_kept = case.method != "DELETE" or case.path.count("/") > 3
    if is_kept and case.path_parameters and len(str(case.body)) % 2:
        for name, known in (("image_id", image_id), ("video_id", video_id)):
            if name in case.path_parameters:
                case.path_parameters[name] = known
    # A busy machine takes longer than the client would wait of itself.
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=120)
