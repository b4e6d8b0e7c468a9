"""Options that several commands share, and how they become a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, PixelWork
from samtrt.cli.screen import working

if TYPE_CHECKING:
    from samtrt.predictor import Predictor

ModelDir = Annotated[
    Path, typer.Argument(metavar="DIR", help="Model directory, as written by 'samtrt export'.")
]
BackendOption = Annotated[
    BackendName,
    typer.Option(
        "--backend",
        "-b",
        metavar="RUNTIME",
        help=f"Runtime: {', '.join(BackendName)}. Nothing falls back to another.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or cuda:N. Default: the backend's own."),
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, help="CPU threads; 0 leaves it to the runtime.")
]
PixelsOption = Annotated[
    PixelWork,
    typer.Option(
        "--pixels",
        help="TensorRT: where images are prepared and masks formed, on its device or on the host.",
    ),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        "-c",
        help="The checkpoint that DIR was exported from, for pytorch.",
    ),
]
SpecksOption = Annotated[
    int,
    typer.Option(
        "--specks",
        min=0,
        metavar="CELLS",
        help="Remove islands and holes of fewer cells of the low-res logits; 0 for none.",
    ),
]


def load_predictor(
    directory: Path,
    backend: BackendName,
    device: str | None,
    threads: int,
    checkpoint: Path | None,
    pixels: PixelWork = PixelWork.DEVICE,
) -> Predictor:
    """Open a model directory with the shared options."""
    from samtrt.predictor import Predictor

    options = BackendOptions(device=device, threads=threads, pixels=pixels, checkpoint=checkpoint)
    with working("loading the model"):
        return Predictor.load(directory, backend, options)
