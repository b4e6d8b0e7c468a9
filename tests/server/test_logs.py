"""Clients cannot fill the log with what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from samtrt.server.logs import FewOfAKind

CLOCK = [0.0]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What a filtered handler writes; its clock shows `CLOCK`."""
    written: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    handler = Handler()
    handler.addFilter(FewOfAKind(most=3, seconds=10, clock=lambda: CLOCK[0]))
    caplog.set_level(logging.INFO)
    root = logging.getLogger()
    root.addHandler(handler)
    CLOCK[0] = 0.0
    yield written
    root.removeHandler(handler)


def test_of_each_kind_some_lines_are_written_and_the_rest_counted(lines: list[str]) -> None:
    log = logging.getLogger("samtrt.server")
    for number in range(1000):
        log.info("GET %d 401", number, extra={"kind": 401})
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        logging.getLogger("asyncio").error(f"socket {number} failed")
    assert len(lines) == 9
    log.info("GET 404", extra={"kind": 404})
    log.warning("another text")
    assert lines[9:] == ["GET 404", "another text"]
    CLOCK[0] = 10.0
    log.info("GET %d 401", 7, extra={"kind": 401})
    log.info("GET %d 401", 8, extra={"kind": 401})
    assert lines[11:] == ["GET 7 401 (and 997 like it before)", "GET 8 401"]


def test_honest_requests_are_all_written(lines: list[str]) -> None:
    for number in range(100):
        logging.getLogger("samtrt.server").info("GET %d 200", number)
    assert len(lines) == 100
