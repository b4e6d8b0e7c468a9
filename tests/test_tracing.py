"""Spans: through the server, from its client, and where nobody wants any."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from samtrt import Client, tracing
from samtrt.errors import MissingExtraError
from samtrt.manifest import Manifest
from samtrt.server.settings import Settings
from support.server_cases import Served, live, make_picture

COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What is exported while the test runs, and the tracer that makes it."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_a_click_is_one_trace_from_client_to_decoder(spans: Any, manifest: Manifest) -> None:
    with live(Served(manifest, Settings()).app) as url, Client(url) as client:
        with tracing.span("of the user"):
            image = client.upload(make_picture())
            image.predict([[5, 5]], [1])
        client.model()
    found = {one.name: one for one in spans.get_finished_spans()}
    user = found["of the user"].context
    upload, masks = found["POST /v1/images"], found["POST /v1/images/{image_id}/masks"]
    for name, parent in (
        ("POST /v1/images", user),
        ("samtrt.read", upload.context),
        ("samtrt.encode", upload.context),
        ("POST /v1/images/{image_id}/masks", user),
        ("samtrt.decode", masks.context),
    ):
        assert found[name].context.trace_id == user.trace_id
        assert found[name].parent.span_id == parent.span_id
    assert upload.attributes["http.response.status_code"] == 201
    assert found["samtrt.decode"].attributes["prompts"] == 1
    assert found["GET /v1/model"].context.trace_id != user.trace_id


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_header_that_is_no_trace_starts_one(spans: Any, manifest: Manifest, header: str) -> None:
    served = Served(manifest, Settings())
    with served.client as client:
        assert client.get("/healthz", headers={"traceparent": header}).status_code == 200
    (found,) = spans.get_finished_spans()
    assert (found.name, found.parent) == ("GET /healthz", None)


def test_nobody_wants_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COLLECTOR, raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert not tracing.start("test")
    with tracing.span("nothing", {"traceparent": "nonsense"}) as span:
        assert span is None


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COLLECTOR, "http://127.0.0.1:9")
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"samtrt\[otel\]"):
        tracing.start("test")


def test_packages_are_loaded_only_where_spans_are_wanted() -> None:
    code = (
        "import sys\nfrom samtrt import tracing\ntracing.start('test')\n"
        "with tracing.span('x'): pass\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
