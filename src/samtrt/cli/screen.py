"""What commands show: tables within 80 columns, a spinner while they work, what to do next."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from samtrt.manifest import Manifest

_spinning = False


def table(*headings: str, left: int = 1) -> Table:
    """Return a table without frames, which would take a quarter of 80 columns.

    Args:
        headings: Of its columns.
        left: So many columns from the left hold words, the others figures.
    """
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # and one more column between
        pad_edge=False,
        show_edge=False,
    )
    for number, heading in enumerate(headings):
        words = number < left
        made.add_column(
            heading,
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="fold",
            vertical="top",
        )
    return made


def facts() -> Table:
    """Return a table of names and what is to be said of each, which may take several lines."""
    made = table("", "", left=2)
    made.show_header = False
    return made


def show(*parts: Any) -> None:
    """Print tables and lines, as wide as the terminal or as COLUMNS says."""
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def indented(text: str, by: int = 4) -> str:
    """Return text as lines that fit the screen, further in than what they belong to."""
    from rich.console import Console

    return textwrap.fill(text, Console().width, initial_indent=" " * by, subsequent_indent=" " * by)


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Turn a spinner beside a text, on a terminal, while the block runs.

    Yields:
        What changes the text. Within another spinner it changes that one's.
    """
    global _spinning
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if _spinning or not console.is_terminal:
        yield lambda _line: None
        return
    with console.status(escape(text)) as status:
        _spinning = True
        try:
            yield lambda line: status.update(escape(line))
        finally:
            _spinning = False


def next_step(*words: object) -> None:
    """Name a command that goes on from here, as it can be pasted."""
    typer.echo(f"Next: {shlex.join([_program(), *map(str, words)])}")


def _program() -> str:
    """Return what this command is called by: its path, in an environment that is not active."""
    called = sys.argv[0]
    return called if Path(called).name == "samtrt" and not shutil.which("samtrt") else "samtrt"


def next_check(directory: object, manifest: Manifest, *options: str) -> None:
    """Name what to do with engines that were just made: compare them, or time them where we cannot
    know what their checkpoint is called here."""
    name = _checkpoint_called(manifest.checkpoint.sha256)
    if name:
        next_step("verify", directory, "--checkpoint", name, *options)
    else:
        next_step("bench", directory, *options)


def _checkpoint_called(sha256: str) -> str | None:
    from samtrt import assets
    from samtrt.errors import MissingExtraError
    from samtrt.files import sha256_of
    from samtrt.registry import MODELS

    for spec in MODELS.values():
        if spec.download and spec.download.sha256 == sha256:
            return spec.name
    try:
        small = sha256_of(assets.SMALL_CHECKPOINT)
    except MissingExtraError:
        return None
    return assets.SMALL_MODEL if small == sha256 else None
