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

_VARIABLES = "OTEL_"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_tracer: Any = None
_provider: Any = None
_around: Any = None
"""Context of the span that those of threads without one are in."""


def start(service: str) -> bool:
    """Have the spans of this process exported, where the environment asks for it.

    Args:
        service: The process's name in traces, unless `OTEL_SERVICE_NAME` gives another.

    Returns:
        Whether they are.

    Raises:
        MissingExtraError: where they are asked for and the packages are missing.
    """
    global _tracer, _provider
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
    _provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("samtrt")
    return True


def environment() -> dict[str, str]:
    """Return the variables that say what is to become of spans, for processes on other machines."""
    return {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}


def carried() -> dict[str, str]:
    """Return what `take_part` needs in another process; nothing where nobody wants spans."""
    return {**environment(), **headers()} if _tracer is not None else {}


def take_part(service: str, carried: Mapping[str, str]) -> None:
    """Have this process's spans be parts of another one's, as its `carried` says; what the
    environment says here comes first.

    Raises:
        MissingExtraError: as `start`.
    """
    for name, value in carried.items():
        if name.startswith(_VARIABLES):
            os.environ.setdefault(name, value)
    if carried and start(service):
        _be_within(carried)


def flush() -> None:
    """Send what was noted so far: before a process is ended from outside."""
    if _provider is not None:
        _provider.force_flush()


def _be_within(carrier: Mapping[str, str] | None) -> None:
    global _around
    if carrier is None:
        _around = None
        return
    from opentelemetry.propagate import extract

    _around = extract(carrier)


@contextmanager
def whole(name: str, **attributes: str | int | float) -> Iterator[None]:
    """As `span`, around those of all threads of this process."""
    with span(name, None, **attributes) as found:
        if found is None:
            yield
            return
        _be_within(headers())
        try:
            yield
        finally:
            _be_within(None)


@contextmanager
def span(
    name: str, parent: Mapping[str, str] | str | None = None, **attributes: str | int | float
) -> Iterator[Span | None]:
    """Note the time that a block takes, within the span around it.

    Args:
        name: Of the span.
        parent: Headers that name another process's span (`traceparent`), as they are or as JSON;
            None for the span around this one in this thread or, where there is none, `whole`.
        attributes: What else is told of it.

    Yields:
        OpenTelemetry's span, to tell more of it; None where nobody wants any.
    """
    if _tracer is None:
        yield None
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import get_current_span

    carrier = json.loads(parent) if isinstance(parent, str) and parent else parent
    context = extract(carrier) if carrier else None
    if not (carrier or get_current_span().get_span_context().is_valid):
        context = _around
    with _tracer.start_as_current_span(name, context=context, attributes=attributes) as found:
        yield found


def note_failure(found: Span | None, error: Exception) -> None:
    """Tell of a span that its work failed."""
    if found is not None:
        from opentelemetry.trace import StatusCode

        found.record_exception(error)
        found.set_status(StatusCode.ERROR, str(error))


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
