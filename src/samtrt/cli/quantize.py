"""`samtrt quantize`: an int8 encoder for CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samtrt.choices import Quantization
from samtrt.cli.options import ModelDir
from samtrt.cli.reading import ForceOption


def command(
    directory: ModelDir,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model directory to write.")],
    calib: Annotated[
        list[Path],
        typer.Option("--calib", help="Image, or folder of images, to measure on; repeatable."),
    ],
    method: Annotated[
        Quantization,
        typer.Option(help="dynamic scales activations at each run, static as on the images."),
    ] = Quantization.DYNAMIC,
    min_iou: Annotated[
        float,
        typer.Option(min=0, max=1, help="Least mean IoU of masks with the float32 model's."),
    ] = 0.995,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="Layer to leave in float32, instead of measuring; repeatable."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Turn the encoder's linear layers into int8, but for those that lose too much."""
    from rich.console import Console

    from samtrt.export.quantize import QuantizeOptions, quantize_model
    from samtrt.images import read_image
    from samtrt.sources import find_sources

    options = QuantizeOptions(method, min_iou, tuple(keep) if keep else None)
    with Console(stderr=True).status("reading images") as status:
        images = {str(path): read_image(path) for path in find_sources(calib).paths}
        manifest = quantize_model(directory, output, images, options, status.update, force)
    record = manifest.quantized
    assert record is not None
    kept = ", ".join(record.float32_layers) or "none"
    typer.echo(f"{manifest.model} quantized ({record.method.value}), in float32: {kept}.")
    typer.echo(f"Mean IoU with the float32 model's masks: {record.mean_iou:.4f}.")
    typer.echo(f"Next: samtrt verify {output} --checkpoint {manifest.checkpoint.name}")
