"""`samtrt bench`: how fast a model directory is on a backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import BackendName, PixelWork
from samtrt.cli import screen
from samtrt.cli.json_file import JsonOption, check_json, write_json
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    DeviceOption,
    Engines,
    ModelDir,
    PixelsOption,
    ThreadsOption,
)
from samtrt.cli.reading import ForceOption
from samtrt.cli.screen import table, working

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
    with (
        working("loading the engines") as tell,
        Engines(directory, backend, device, threads, checkpoint, pixels).load() as predictor,
    ):
        picture = image or assets.DEMO_PHOTOGRAPH
        result = benching.bench(predictor, picture, settings, tell)
    write_json(json_path, result.as_json())
    show(result)


def show(result: Result) -> None:
    """Print a result as a table."""
    from rich.markup import escape

    shown = table("part", "at once", "p50", "p90", "p99", "per s", "GPU p50")
    for one in result.timings:
        times = (f"{value:.2f}" for value in (one.p50, one.p90, one.p99))
        on_gpu = "" if one.device_p50 is None else f"{one.device_p50:.2f}"
        shown.add_row(one.part, str(one.items), *times, f"{one.per_second:.1f}", on_gpu)
    name = f"{result.model} {result.precision} on {result.backend} ({result.device}), ms"
    screen.show(f"[bold]{name}[/]", shown, *(f"skipped: {escape(line)}" for line in result.skipped))
    if result.host_peak_bytes is not None:
        screen.show(f"host memory, at most: {result.host_peak_bytes / 1e6:.0f} MB")
    if result.device_used_bytes is not None:
        screen.show(f"GPU memory in use: {result.device_used_bytes / 1e6:.0f} MB")
