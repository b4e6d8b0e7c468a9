"""`samtrt export`: checkpoint to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samtrt.choices import AttentionForm, Precision, Resize, ResizeFilter, ValueScale
from samtrt.cli.reading import ForceOption
from samtrt.cli.screen import next_step, working


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint file or directory, a fetched model's name, or owner/name on the Hub."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model directory to write.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Fail unless the checkpoint is this model.")
    ] = None,
    tensors: Annotated[
        str | None,
        typer.Option(help="Which of several models in a file: how its tensors' names begin."),
    ] = None,
    scale: Annotated[
        ValueScale | None,
        typer.Option(help="Range of the pixels it was trained on; with --mean and --std."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Subtracted from pixels of that range.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="They are then divided by it.")
    ] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(help="Longest side and padding (SAM), or stretched to a square (MedSAM)."),
    ] = None,
    resize_filter: Annotated[
        ResizeFilter | None, typer.Option("--filter", help="What images are resized with.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="What the graphs compute in; their borders are fp32.")
    ] = Precision.FP32,
    opset: Annotated[
        int | None,
        typer.Option(help="ONNX opset, 17 to 22; 20 by default (bf16: 22). TensorRT 8.6 needs 17."),
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Let the encoder take several images a run.")
    ] = False,
    simplify: Annotated[bool, typer.Option(help="Run onnx-simplifier.")] = True,
    attention: Annotated[
        AttentionForm,
        typer.Option(
            help="How relative positions enter attention: tiled is for CPUs, folded for GPUs, "
            "plugin for TensorRT with 'samtrt plugin'."
        ),
    ] = AttentionForm.ADD,
    video: Annotated[
        bool,
        typer.Option("--video", help="Of a SAM 2 or EdgeTAM: the graphs for videos too."),
    ] = False,
    hq_token_only: Annotated[
        bool,
        typer.Option(
            "--hq-token-only", help="Of a SAM-HQ: its own mask alone, not the sum with SAM's."
        ),
    ] = False,
    force: ForceOption = False,
) -> None:
    """Turn a checkpoint into encoder.onnx and decoder.onnx, with a manifest.

    How images are prepared is read from the checkpoint where it says so, and is else SAM's own:
    a fine-tune that was trained on other images needs --scale, --mean, --std and --resize.
    """
    from samtrt.checkpoints import download
    from samtrt.manifest import check_model_directory
    from samtrt.preparation.spec import PreparationChanges

    check_model_directory(output, force)  # before a checkpoint of gigabytes is read
    with working("checking the checkpoint"):
        path = download.resolve(checkpoint)  # before PyTorch is imported
    from samtrt.checkpoints.load import load_checkpoint
    from samtrt.export.onnx import ExportOptions, default_opset, export_model, plugin_notices

    try:
        changes = PreparationChanges(
            scale, _numbers(mean, "--mean"), _numbers(std, "--std"), resize, resize_filter
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    options = ExportOptions(
        precision=precision,
        opset=default_opset(precision) if opset is None else opset,
        dynamic_batch=dynamic_batch,
        simplify=simplify,
        attention=attention,
        hq_token_only=hq_token_only,
        video=video,
    )
    with working("reading the checkpoint") as tell:
        loaded = load_checkpoint(path, model, tensors, changes)
        manifest = export_model(loaded, output, options, tell, force)
    for entries in manifest.files.values():
        for entry in entries:
            typer.echo(f"{output / entry.name}  {entry.size / 1e6:.1f} MB")
    told = plugin_notices(loaded.spec) if attention is AttentionForm.PLUGIN else ()
    for notice in (*loaded.notices, *told):
        typer.echo(notice)
    typer.echo(f"images: {manifest.preparation}")
    typer.echo(f"{manifest.model} exported ({precision.value}, opset {manifest.opset}).")
    next_step("verify", output, "--checkpoint", checkpoint)


def _numbers(text: str | None, option: str) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{option} takes three numbers, such as 0.485,0.456,0.406, not '{text}'"
        ) from None
    return red, green, blue
