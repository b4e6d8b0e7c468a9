"""`samtrt triton`: a model directory as a model repository for Triton Inference Server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from samtrt.choices import BackendName, TritonPlatform
from samtrt.cli.options import BackendOption, ModelDir, ThreadsOption
from samtrt.cli.reading import ForceOption


def command(
    directory: ModelDir,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model repository.")],
    name: Annotated[str, typer.Option(help="Of the model; the others begin with it.")] = "sam",
    model_version: Annotated[
        int, typer.Option("--model-version", help="Which version of the model this is.")
    ] = 1,
    platform: Annotated[
        TritonPlatform, typer.Option("--platform", help="What of Triton runs both engines.")
    ] = TritonPlatform.PYTHON,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: Annotated[
        str,
        typer.Option("--device", help="cpu, cuda or cuda:N; cuda is each GPU that Triton sees."),
    ] = "cpu",
    threads: ThreadsOption = 0,
    instances: Annotated[
        int,
        typer.Option(
            min=1, help="Processes that answer clients, one request at a time, each with a cache."
        ),
    ] = 2,
    auto_instances: Annotated[
        int, typer.Option(min=0, help="Processes that find everything; 0 for none.")
    ] = 1,
    encoders: Annotated[int, typer.Option(min=1, help="Encoders, on each device.")] = 1,
    decoders: Annotated[int, typer.Option(min=1, help="Decoders, on each device.")] = 1,
    encoder_batch: Annotated[
        int, typer.Option(min=1, help="Images encoded together, where the engine takes several.")
    ] = 8,
    batch_delay: Annotated[
        float, typer.Option(min=0, max=1000, help="Milliseconds that an image waits for others.")
    ] = 2.0,
    sequences: Annotated[
        int, typer.Option(min=1, help="Clients of one process at once; more wait.")
    ] = 1024,
    idle: Annotated[
        float, typer.Option(min=1, help="Seconds until a silent client loses its place.")
    ] = 600.0,
    cache: Annotated[int, typer.Option(min=1, help="Embeddings of each process, MiB.")] = 1024,
    max_upload: Annotated[int, typer.Option(min=1, help="Largest upload, MiB.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image, megapixels.")] = 50,
    force: ForceOption = False,
    start: Annotated[
        bool, typer.Option("--start", help="Then become tritonserver on the repository.")
    ] = False,
    host: Annotated[str, typer.Option(help="With --start: address to bind.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=1, max=65533, help="With --start: HTTP; gRPC and figures are the next."),
    ] = 8000,
    server_option: Annotated[
        list[str] | None,
        typer.Option("--server-option", help="With --start: handed to tritonserver; repeatable."),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="With --start: let other machines in; Triton asks nobody."),
    ] = False,
) -> None:
    """Write a model repository for Triton Inference Server, and start it if asked to.

    The model 'sam' takes image bytes and prompts and gives masks; it calls the encoder and the
    decoder, which are models of their own.
    """
    from samtrt.triton.models import Scaling
    from samtrt.triton.repository import RepositoryOptions, write_repository
    from samtrt.triton.server import Listening, become, check_exposure, find_server
    from samtrt.triton.server import command as server_command
    from samtrt.triton.settings import MIB, Limits

    listening = Listening(host, port, port + 1, port + 2)
    if start:  # before any work
        check_exposure(listening, insecure)
    installation = find_server() if start else None
    options = RepositoryOptions(
        name=name,
        version=model_version,
        platform=platform,
        backend=backend,
        device=device,
        threads=threads,
        scaling=Scaling(
            instances=instances,
            auto_instances=auto_instances,
            encoders=encoders,
            decoders=decoders,
            encoder_batch=encoder_batch,
            batch_delay=batch_delay / 1000,
            sequences=sequences,
            idle=idle,
        ),
        cache_bytes=cache * MIB,
        limits=Limits(max_upload_bytes=max_upload * MIB, max_pixels=max_pixels * 1_000_000),
    )
    for path in write_repository(directory, output, options, force):
        typer.echo(str(path))
    if installation is None:
        typer.echo(f"start it with: tritonserver --model-repository {shlex.quote(str(output))}")
        return
    become(installation, server_command(installation, output, listening, server_option or ()))
