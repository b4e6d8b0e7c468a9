"""Running the command line in the test's own process."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

import typer.main

from samtrt.cli import app


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def parsed(out: str) -> dict[str, Any]:
    """Return the arguments of the last command that an output names as next, which it may run.

    The line is cut as a shell does, and read as the command line reads it, which refuses what it
    does not know.
    """
    line = [line for line in out.splitlines() if line.startswith("Next: ")][-1]
    program, name, *words = shlex.split(line.removeprefix("Next: "))
    assert program == "samtrt"
    group: Any = typer.main.get_command(app)
    given = group.commands[name].make_context(name, words).params
    return {key: value for key, value in given.items() if value is not None and key in _NAMED}


_NAMED = ("directory", "checkpoint", "output")
