"""Traces by OpenTelemetry, where its packages are installed and somebody wants them.

What the environment says decides, by OpenTelemetry's own variables: spans are exported where
`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names a collector. Without
them, and in a process that never called `start`, a span costs nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from samtrt.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_tracer: Any = None


def start(service: str) -> bool:
    """Have the spans of this process exported, where the environment asks for it.

    Args:
        service: The process's name in traces, unless `OTEL_SERVICE_NAME` gives another.

    Returns:
        Whether they are.

    Raises:
        MissingExtraError: where they are asked for and the packages are missing.
    """
    global _tracer
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    if _tracer is not None:
        return True
    package = "opentelemetry.exporter.otlp.proto.http"
    try:
        found = find_spec(package)
    except ModuleNotFoundError:  # of a package above
        found = None
    if found is None:
        raise MissingExtraError("Tracing", "otel", "opentelemetry-exporter-otlp-proto-http")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME") or f"samtrt {service}"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("samtrt")
    return True


@contextmanager
def span(
    name: str, parent: Mapping[str, str] | str | None = None, **attributes: str | int | float
) -> Iterator[Span | None]:
    """Note the time that a block takes, within the span around it.

    Args:
        name: Of the span.
        parent: Headers that name another process's span (`traceparent`), as they are or as JSON;
            None for the span around this one in this thread.
        attributes: What else is told of it.

    Yields:
        OpenTelemetry's span, to tell more of it; None where nobody wants any.
    """
    if _tracer is None:
        yield None
        return
    from opentelemetry.propagate import extract

    carrier = json.loads(parent) if isinstance(parent, str) and parent else parent
    context = extract(carrier) if carrier else None
    with _tracer.start_as_current_span(name, context=context, attributes=attributes) as found:
        yield found


def headers() -> dict[str, str]:
    """Return the headers that tell another process of the current span; none where there is none.

    The span may be of the user's own tracer: it needs no `start`.
    """
    if not _is_installed():
        return {}
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier


@cache
def _is_installed() -> bool:
    return find_spec("opentelemetry") is not None
