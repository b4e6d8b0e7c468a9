"""`samtrt demo`: the whole path on the bundled checkpoint and photograph, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

POINT = (0, 0)
BOX = (0, 0, 1, 1)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to put everything.")],
) -> None:
    """Export, verify and run the bundled small checkpoint on a photograph; no network needed."""
    from samtrt import assets
    from samtrt.cli.export import export
    from samtrt.cli.predict import predict
    from samtrt.cli.verify import verify

    model, checkpoint, photograph = (
        output / "model",
        assets.SMALL_CHECKPOINT,
        assets.DEMO_PHOTOGRAPH,
    )
    typer.secho("1. export the small checkpoint", bold=True)
    export(str(checkpoint), model)
    typer.secho("2. verify the engines against PyTorch", bold=True)
    verify(model, str(checkpoint), json_path=output / "verify.json")
    typer.secho("3. segment a photograph", bold=True)
    x, y = POINT
    predict(
        model,
        photograph,
        point=[f"{x},{y}"],
        overlay=output / "point.png",
        mask_path=output / "point-mask.png",
        json_path=output / "point.json",
    )
    predict(model, photograph, box=[",".join(map(str, BOX))], overlay=output / "box.png")
    typer.secho(f"Done. Look at {output / 'point.png'} and {output / 'box.png'}.", bold=True)
