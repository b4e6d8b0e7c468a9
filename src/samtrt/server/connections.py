"""Connections that clients keep open: how many, and for how long without getting on.

uvicorn limits the time between requests. What is added here is what it leaves open: a head that
never ends, a body that is not wanted, an answer that is not taken, and the number of all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from samtrt.server.settings import Settings

log = logging.getLogger("samtrt.server")

TICK = 0.5
"""Seconds between two looks at a connection."""

ENDLESS = "samtrt.endless"
"""Key of an ASGI scope whose answer may go on for as long as its client takes it."""

_WANTED = 8
"""Connections that are worth running a server for."""
_OTHER_FILES = 64
"""Open files that are not connections: the model, the log, the readers."""


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, closed when its client is silent or slow."""

    settings: ClassVar[Settings] = Settings()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        now = self.loop.time()
        self._head_since: float | None = now
        self._answer_since: float | None = None
        self._paused_since: float | None = None
        self._done_since: float | None = None
        self._watch: asyncio.TimerHandle | None = self.loop.call_later(TICK, self._look)
        if len(self.connections) > self.settings.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self.loop.time()

    def on_response_complete(self) -> None:
        self._head_since = None  # from here on, uvicorn's own limit holds
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._paused_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._paused_since = None
        super().resume_writing()

    @property
    def is_waiting(self) -> bool:
        """Whether no request of it is being worked on."""
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        now = self.loop.time()
        self._watch = self.loop.call_later(TICK, self._look)
        self._note(now)
        limits = self.settings
        for since, seconds, what in (
            (self._head_since, limits.header_seconds, "a request's head that does not end"),
            (self._paused_since, limits.stall_seconds, "an answer that is not taken"),
            (self._done_since, limits.stall_seconds, "an answer that is not taken"),
            (self._answer_since, limits.answer_seconds, "an answer that is taken too slowly"),
        ):
            if since is not None and now - since > seconds:
                log.info("closed a connection: %s", what)
                self.transport.abort()
                return

    def _note(self, now: float) -> None:
        """Keep since when an answer, and what is left of a finished one, is waited for."""
        begun = self.cycle is not None and self.cycle.response_started
        unsent = self.transport.get_write_buffer_size() > 0
        # A finished answer may wait in the buffer; its request's body may still be coming.
        done = begun and self.cycle.response_complete
        over = done and not unsent and self.conn.their_state is not h11.SEND_BODY
        if not begun or over:
            self._answer_since = self._done_since = None
            return
        if self._answer_since is None or ENDLESS in self.cycle.scope:
            self._answer_since = now
        if not done:
            self._done_since = None
        elif self._done_since is None:
            self._done_since = now

    def _make_room(self) -> None:
        """Close the connection that has waited longest without work; if all work, this one."""
        waiting = [c for c in self.connections if isinstance(c, Connection) and c.is_waiting]
        oldest = min(waiting, key=lambda c: c._head_since or 0.0, default=self)
        log.info("closed a connection: there are %d", len(self.connections))
        self.connections.discard(oldest)
        oldest.transport.abort()


def connection_class(settings: Settings) -> type[Connection]:
    """Return the class of a server's connections."""

    class Limited(Connection):
        pass

    Limited.settings = settings
    return Limited


def room_for_connections(wanted: int) -> int:
    """Raise the process's limit of open files, and return how many connections it has room for."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    aim = wanted + _backlog(wanted) + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < aim:
        soft = aim if hard == resource.RLIM_INFINITY else min(aim, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(_WANTED, min(wanted, (soft - _OTHER_FILES) * 4 // 5))


def _backlog(connections: int) -> int:
    """Return how many connections are accepted at once, before one too many can be closed."""
    return max(_WANTED, min(128, connections // 4))


def options_of(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options that limit connections."""
    return {
        "http": connection_class(settings),
        "ws": "none",
        "backlog": _backlog(settings.max_connections),
        "timeout_keep_alive": settings.idle_seconds,
        "h11_max_incomplete_event_size": 64 * 1024,
    }
