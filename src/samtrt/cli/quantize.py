"""`samtrt quantize`: an int8 encoder for CPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import Quantization
from samtrt.cli.options import ModelDir
from samtrt.cli.reading import ForceOption
from samtrt.cli.screen import next_check, working

if TYPE_CHECKING:
    from samtrt.types import UInt8Array


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
    from samtrt.export.quantize import QuantizeOptions, quantize_model
    from samtrt.images import read_image
    from samtrt.sources import find_sources

    options = QuantizeOptions(method, min_iou, tuple(keep) if keep else None)
    with working("reading images") as tell:
        images = {str(path): read_image(path) for path in find_sources(calib).paths}
        manifest = quantize_model(directory, output, images, options, tell, force)
        gained = _gained(directory, output, next(iter(images.values())), tell)
    record = manifest.quantized
    assert record is not None
    kept = ", ".join(record.float32_layers) or "none"
    typer.echo(f"{manifest.model} quantized ({record.method.value}), in float32: {kept}.")
    typer.echo(f"Mean IoU with the float32 model's masks: {record.mean_iou:.4f}.")
    typer.echo(gained)
    next_check(output, manifest)


def _gained(before: Path, after: Path, image: UInt8Array, tell: Callable[[str], None]) -> str:
    """Say how much smaller and quicker the encoder became, here."""
    import time

    from samtrt.choices import Stage
    from samtrt.predictor import Predictor

    tell("timing both encoders")
    sizes, seconds = [], []
    for directory in (before, after):
        with Predictor.load(directory) as predictor:
            sizes.append(sum(one.size for one in predictor.manifest.files[Stage.ENCODER]) / 1e6)
            times = []
            for _ in range(1 + _RUNS):
                begun = time.perf_counter()
                predictor.encode(image)
                times.append(time.perf_counter() - begun)
            seconds.append(min(times[1:]))
    return (
        f"The encoder: {sizes[1]:.1f} MB, from {sizes[0]:.1f} MB; an image in {seconds[1]:.2f} s, "
        f"from {seconds[0]:.2f} s on this machine (best of {_RUNS})."
    )


_RUNS = 3
"""Images encoded to time an encoder, after one that is not timed."""
