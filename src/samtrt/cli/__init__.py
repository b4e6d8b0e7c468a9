"""The command line. Each command is a thin function in a module of its own.

Heavy modules are imported inside the commands, so that `samtrt --help` is quick and a command
needs only its own extras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from samtrt._version import __version__
from samtrt.cli.auto import auto
from samtrt.cli.bench import bench
from samtrt.cli.build import build
from samtrt.cli.demo import demo
from samtrt.cli.embed import embed
from samtrt.cli.export import export
from samtrt.cli.fetch import fetch
from samtrt.cli.info import info
from samtrt.cli.plugin import plugin
from samtrt.cli.predict import predict
from samtrt.cli.quantize import quantize
from samtrt.cli.serve import serve
from samtrt.cli.verify import verify
from samtrt.errors import SamtrtError

app = typer.Typer(
    name="samtrt",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


for _command in (
    fetch,
    export,
    quantize,
    plugin,
    build,
    verify,
    bench,
    predict,
    auto,
    embed,
    serve,
    info,
    demo,
):
    app.command()(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0: done. 1: `verify` found the engines wanting, or one of many images could not be read.
    2: bad input, told in one line. 130: interrupted.
    """
    try:
        app(args=argv)
    except SamtrtError as error:
        typer.secho(f"samtrt: error: {error}", fg="red", err=True)
        return 2
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0
