"""schemathesis plays every operation of the server's own OpenAPI document against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
from support.fake_runtime import fake_predictor
from support.samples import make_manifest
from support.server_cases import live

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def fake_app() -> Any:
    return create_app(fake_predictor(make_manifest()))


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


@pytest.mark.long
@schema.parametrize()
@settings(
    max_examples=10,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_operation_fails(case: Any, url: str, image_id: str) -> None:
    # Half of the cases ask about an image that exists, so that they get past the look-up.
    if case.method != "DELETE" and case.path_parameters and len(str(case.body)) % 2:
        case.path_parameters["image_id"] = image_id
    # A busy machine takes longer than the client would wait of itself.
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=120)
