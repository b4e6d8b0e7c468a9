"""`samtrt plugin`: the library that runs our own kernels in TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samtrt.cli.screen import next_step, working


def command(
    tensorrt_root: Annotated[
        Path,
        typer.Option(
            "--tensorrt-root",
            metavar="DIR",
            envvar="TENSORRT_ROOT",
            help="TensorRT 8.6, 10 or 11, or its headers.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Library to write. Default: in the cache."),
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="sm_XX", help="GPU to compile for; repeatable. Default: the one at hand."
        ),
    ] = None,
    nvcc: Annotated[
        Path | None, typer.Option(help="CUDA's compiler. Default: on PATH, or in CUDA_HOME.")
    ] = None,
) -> None:
    """Compile the plugin library for 'samtrt build --plugin'."""
    from samtrt.tensorrt.plugin.compiler import compile_plugin

    with working("compiling, a minute or so"):
        path = compile_plugin(tensorrt_root, output, arch or (), nvcc)
    typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    # Of the model that everybody has; the library is for any.
    next_step("export", "vit_s", "-o", "vit_s-plugin", "--attention", "plugin", "--opset", 17)
    next_step("build", "vit_s-plugin", "-t", "tensorrt", "--precision", "fp16", "--plugin", path)
