"""`--json FILE` of commands that report figures: where they go, beside what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from samtrt.files import check_ours, write_atomic

JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write every figure to this file, as JSON."),
]


def check_json(path: Path | None, begins: bytes, force: bool) -> None:
    """Refuse to replace a file that does not begin as those of the command do."""
    if path:
        check_ours(path, lambda there: _begins(there, begins), force)


def _begins(path: Path, begins: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(begins)) in (b"", begins)
    except OSError:
        return False


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    """Write a report where a file was asked for; NaN in it is a mistake."""
    if path:
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
        with write_atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
