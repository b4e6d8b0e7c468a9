"""`samtrt demo`: the whole path on the bundled checkpoint and photograph, offline."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from samtrt.choices import SPECKS
from samtrt.cli.screen import next_step

BOWL = ((290, 70), (290, 150))  # the white inside of the cup, and the coffee
COFFEE = (204, 95, 369, 193)


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to put the model and the pictures.")
    ] = Path("demo-out"),
) -> None:
    """Export, verify and run the bundled small checkpoint on a photograph; no network needed."""
    from samtrt import assets
    from samtrt.cli import export, predict, verify
    from samtrt.errors import MissingExtraError

    # All that its steps need, told at once and not one by one.
    for package in ("torch", "onnx", "onnxruntime", "samtrt_assets"):
        if find_spec(package) is None:
            raise MissingExtraError("The demo", "demo", package)
    model, checkpoint = output / "model", str(assets.SMALL_CHECKPOINT)
    typer.secho("1. Export the small checkpoint to two ONNX graphs", bold=True)
    export.command(checkpoint, model)
    typer.secho("2. Verify the graphs against PyTorch", bold=True)
    verify.command(model, checkpoint, json_path=output / "verify.json")
    typer.secho("3. Segment a photograph: what two points mean, then what a box holds", bold=True)
    predict.command(
        model,
        str(assets.DEMO_PHOTOGRAPH),
        specks=SPECKS,
        point=[",".join(map(str, point)) for point in BOWL],
        output=str(output / "points.png"),
        mask_path=output / "points-mask.png",
        json_path=output / "points.json",
    )
    predict.command(
        model,
        str(assets.DEMO_PHOTOGRAPH),
        specks=SPECKS,
        box=[",".join(map(str, COFFEE))],
        output=str(output / "box.png"),
        mask_path=output / "box-mask.png",
    )
    next_step("serve", model)
    typer.secho(f"Done. Look at {output / 'points.png'} and {output / 'box.png'}.", bold=True)
