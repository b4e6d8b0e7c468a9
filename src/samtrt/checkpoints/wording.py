"""Words that messages about checkpoints share."""

from __future__ import annotations

from collections.abc import Iterable

from samtrt.files import printable

_LONGEST = 120  # letters of a name


def dims(shape: Iterable[int]) -> str:
    """Write a shape."""
    return "x".join(map(str, shape)) or "a scalar"


def some(names: Iterable[str], limit: int = 3) -> str:
    """List the first few names, on one line whatever they are, and say how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(map(_name, listed[:limit])) + more


def _name(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
