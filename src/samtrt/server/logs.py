"""A log that clients cannot fill: of what is refused, some lines of each kind."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST, SECONDS = 20, 10.0
"""Lines of a kind that are written within so many seconds."""


@dataclass
class _Kind:
    begun: float
    lines: int = 0


class FewOfAKind(logging.Filter):
    """Lets some lines of a kind through in a while; the next that comes through counts the others.

    A kind is what a line's `kind` says (by `extra`), and of warnings and errors the text before its
    values are filled in. All else passes.
    """

    def __init__(
        self,
        most: int = MOST,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._most, self._seconds, self._clock = most, seconds, clock
        self._kinds: dict[object, _Kind] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        key = _kind_of(record)
        if key is None:
            return True
        now = self._clock()
        left = 0
        with self._lock:
            kind = self._kinds.setdefault(key, _Kind(now))
            if now - kind.begun >= self._seconds:
                left = max(kind.lines - self._most, 0)
                kind.begun, kind.lines = now, 0
            kind.lines += 1
            passes = kind.lines <= self._most
        if left:
            record.msg, record.args = f"{record.getMessage()} (and {left:,} like it before)", ()
        return passes


def _kind_of(record: logging.LogRecord) -> object:
    if (kind := getattr(record, "kind", None)) is not None:
        return kind
    if record.levelno < logging.WARNING:
        return None
    # The event loop's texts name addresses and objects: all of them are one kind.
    return record.name, record.levelno, None if record.name == "asyncio" else record.msg
