"""`samtrt fetch`: download an official checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    model: Annotated[str, typer.Argument(help="A published model: see samtrt fetch --help.")],
) -> None:
    """Download an official checkpoint, checked and cached; resumes where it broke off."""
    from samtrt.checkpoints import download

    typer.echo(download.fetch(model))
