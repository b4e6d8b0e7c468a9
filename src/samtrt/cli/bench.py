"""`samtrt bench`: how fast a model directory is on a backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import BackendName, PixelWork
from samtrt.cli.json_file import JsonOption, check_json, write_json
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    DeviceOption,
    ModelDir,
    PixelsOption,
    ThreadsOption,
    load_predictor,
)
from samtrt.cli.reading import ForceOption

if TYPE_CHECKING:
    from samtrt.benchmark import Result

_REPORT = b'{\n  "model": '


def command(
    directory: ModelDir,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DeviceOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    checkpoint: CheckpointOption = None,
    image: Annotated[
        Path | None, typer.Option("--image", "-i", help="Image file. Default: built in.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed calls of each case.")] = 50,
    warmup: Annotated[int, typer.Option(min=0, help="Calls before, not timed.")] = 5,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Images in one encoder call; repeatable. Default: 1."),
    ] = None,
    prompts: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Prompts in one decoder call; repeatable. Default: 1 4 16 64."),
    ] = None,
    points: Annotated[int, typer.Option(min=1, help="Points of each prompt.")] = 1,
    json_path: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Time the encoder, the decoder, and the way from an image file to masks."""
    from rich.console import Console

    from samtrt import assets
    from samtrt import benchmark as benching

    defaults = benching.Settings()
    settings = benching.Settings(
        runs=runs,
        warmup=warmup,
        batch=tuple(batch or defaults.batch),
        prompts=tuple(prompts or defaults.prompts),
        points=points,
    )
    check_json(json_path, _REPORT, force)
    console = Console(stderr=True)
    with (
        console.status("loading the engines") as status,
        load_predictor(directory, backend, device, threads, checkpoint, pixels) as predictor,
    ):
        picture = image or assets.DEMO_PHOTOGRAPH
        result = benching.bench(predictor, picture, settings, status.update)
    write_json(json_path, result.as_json())
    show(result)


def show(result: Result) -> None:
    """Print a result as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        title=f"{result.model} {result.precision} on {result.backend} ({result.device}), ms"
    )
    for heading in ("part", "at once", "p50", "p90", "p99", "per second", "GPU p50"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for one in result.timings:
        times = (f"{value:.2f}" for value in (one.p50, one.p90, one.p99))
        on_gpu = "" if one.device_p50 is None else f"{one.device_p50:.2f}"
        table.add_row(one.part, str(one.items), *times, f"{one.per_second:.1f}", on_gpu)
    console.print(table)
    for line in result.skipped:
        console.print(f"skipped: {line}", highlight=False, markup=False)
    if result.host_peak_bytes is not None:
        console.print(f"host memory, at most: {result.host_peak_bytes / 1e6:.0f} MB")
    if result.device_used_bytes is not None:
        console.print(f"GPU memory in use: {result.device_used_bytes / 1e6:.0f} MB")
