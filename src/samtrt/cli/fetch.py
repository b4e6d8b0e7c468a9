"""`samtrt fetch`: download an official checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="A model, such as vit_b or mobile_sam, or its name on the Hub: owner/name."
        ),
    ],
) -> None:
    """Download an official checkpoint, checked and cached; resumes where it broke off."""
    from samtrt.checkpoints import download

    typer.echo(download.fetch(model))
