"""Words that messages about checkpoints share."""

from __future__ import annotations

from collections.abc import Iterable


def dims(shape: Iterable[int]) -> str:
    """Write a shape."""
    return "x".join(map(str, shape)) or "a scalar"


def some(names: Iterable[str], limit: int = 3) -> str:
    """List the first few names and say how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
