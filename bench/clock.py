"""Where the time of a run goes, by function."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Clock:
    """Adds up the time within named functions, over all threads.

    Attributes:
        seconds: By label.
        calls: By label.
    """

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._timer, self._lock = timer, threading.Lock()

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Replace `owner.name` by itself with a clock around it."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self._timer()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.seconds[label] += self._timer() - start
                    self.calls[label] += 1

        setattr(owner, name, timed)
