"""A collector of OpenTelemetry's spans on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    """A span.

    Attributes:
        name: Its own.
        service: Whose.
        trace, id, parent: Numbers in hexadecimal digits.
        image: Which image it is about; empty where it says none.
    """

    name: str
    service: str
    trace: str
    id: str
    parent: str
    image: str


@dataclass
class Collector:
    """Takes spans as OpenTelemetry's exporters send them.

    Attributes:
        url: Where it listens.
        bodies: What came.
    """

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def has(self, trace: bytes, words: Sequence[bytes]) -> bool:
        """Tell whether each of these words came with a trace's number."""
        came = [body for body in self.bodies if trace in body]
        return all(any(word in body for body in came) for word in words)

    def spans(self) -> list[Seen]:
        """Return the spans that Python's exporter sent."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                (service,) = (
                    one.value.string_value
                    for one in resource.resource.attributes
                    if one.key == "service.name"
                )
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    told = {one.key: one.value.string_value for one in span.attributes}
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    found.append(Seen(span.name, service, *ids, told.get("image", "")))
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    """Take spans while the block lasts."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
