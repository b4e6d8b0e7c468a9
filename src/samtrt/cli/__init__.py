"""The command line. Each command is the function `command` of the module that has its name.

Heavy modules are imported inside the commands, so that `samtrt --help` is quick and a command
needs only its own extras.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

from samtrt._version import __version__
from samtrt.errors import MissingExtraError, SamtrtError

try:
    import typer
except ImportError:
    raise MissingExtraError("The command line", "cli", "typer") from None

from samtrt.cli import (
    auto,
    bench,
    build,
    demo,
    embed,
    export,
    fetch,
    info,
    plugin,
    predict,
    quantize,
    serve,
    track,
    triton,
    verify,
)
from samtrt.files import printable

app = typer.Typer(
    name="samtrt",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its imports take longer than all that help needs
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"samtrt {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Turn a Segment Anything checkpoint into two fast, verified engines, and run them."""


# In the order of `samtrt --help`.
for _module in (
    fetch,
    export,
    quantize,
    plugin,
    build,
    verify,
    bench,
    predict,
    auto,
    track,
    embed,
    serve,
    triton,
    info,
    demo,
):
    app.command(
        _module.__name__.rpartition(".")[2],
        short_help=(_module.command.__doc__ or "").partition("\n")[0],  # else cut to fit a line
    )(_module.command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0: done. 1: `verify` found the engines wanting, or one of many images failed. 2: bad input,
    told in one line. 70: a mistake in samtrt itself. 130: interrupted. 143, 129: told to end by
    SIGTERM or SIGHUP; what is half done is removed first.
    """
    # Decoders warn of what is damaged by Python's warnings; a command tells it in a line.
    warnings.filterwarnings("ignore", module=r"PIL\.|tifffile")
    try:
        with _told_to_end():
            _command()(args=argv)
    except SamtrtError as error:
        _fail(f"error: {error}")
        return 2
    except MemoryError:
        _fail("error: there is not enough memory for this")
        return 2
    except OSError as error:  # a place that is locked, full or gone
        where = f"cannot use {error.filename}: " if error.filename else ""
        _fail(f"error: {where}{error.strerror or error}")
        return 2
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except Exception as error:
        _fail(
            f"internal error, please report it{_save_trace(error)}: {type(error).__name__}: {error}"
        )
        return 70
    return 0


def _command() -> Any:
    """Return the command line, which leaves it to our readers to tell what cannot be read.

    Typer would tell it too, with the usage around.
    """
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        for parameter in command.params:
            described = getattr(parameter, "type_descriptor", None)  # since 0.24; before: a type
            kind = described.parameter_info if described else parameter.type
            if hasattr(kind, "readable"):
                kind.readable = False
    return group


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as an exception does, so that it cleans up."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    known = [one for one in signal.Signals if one.name in ("SIGTERM", "SIGHUP")]
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        known = []
    # What somebody set stays, such as nohup's.
    ours = [one for one in known if signal.getsignal(one) is signal.SIG_DFL]
    for one in ours:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in ours:
            if signal.getsignal(one) is end:
                signal.signal(one, signal.SIG_DFL)


def _fail(line: str) -> None:
    typer.secho(f"samtrt: {printable(line)}", fg="red", err=True)


def _save_trace(error: Exception) -> str:
    """Write where an error came from to a file; return words that name it."""
    text = "".join(traceback.format_exception(error))
    about = f"samtrt {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    try:
        handle, name = tempfile.mkstemp(prefix="samtrt-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{about}{sys.argv}\n{text}")
    except OSError:  # no room for it either
        return ""
    return f" with {name}"
