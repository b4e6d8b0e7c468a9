"""`samtrt export`: checkpoint to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from samtrt.choices import AttentionForm, Precision


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint file or directory, or a fetched model's name.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model directory to write.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Fail unless the checkpoint is this model.")
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
) -> None:
    """Turn a checkpoint into encoder.onnx and decoder.onnx, with a manifest."""
    from samtrt.checkpoints import fetch
    from samtrt.checkpoints.load import load_checkpoint
    from samtrt.export.onnx import ExportOptions, default_opset, export_model

    options = ExportOptions(
        precision=precision,
        opset=default_opset(precision) if opset is None else opset,
        dynamic_batch=dynamic_batch,
        simplify=simplify,
        attention=attention,
    )
    console = Console(stderr=True)
    with console.status("reading the checkpoint") as status:
        loaded = load_checkpoint(fetch.resolve(checkpoint), model)
        manifest = export_model(loaded, output, options, status.update)
    for entries in manifest.files.values():
        for entry in entries:
            typer.echo(f"{output / entry.name}  {entry.size / 1e6:.1f} MB")
    typer.echo(f"{manifest.model} exported ({precision.value}, opset {manifest.opset}).")
    typer.echo(f"Next: samtrt verify {output} --checkpoint {checkpoint}")
