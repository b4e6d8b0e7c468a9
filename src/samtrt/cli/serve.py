"""`samtrt serve`: a model directory behind HTTP, with the page that uses it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import BackendName, PixelWork
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    DeviceOption,
    Engines,
    ModelDir,
    PixelsOption,
    RayOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from samtrt.server.settings import Settings


def command(
    directory: ModelDir,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DeviceOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    checkpoint: CheckpointOption = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with the token that clients must send; or set SAMTRT_TOKEN.",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other machines in without a token.")
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", help="Origin whose pages may use the API; repeatable."),
    ] = None,
    max_upload: Annotated[int, typer.Option(min=1, help="Largest upload, MiB.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image, megapixels.")] = 50,
    cache: Annotated[int, typer.Option(min=1, help="Memory for embeddings, MiB.")] = 1024,
    device_cache: Annotated[
        int, typer.Option(min=0, help="Of the GPU's memory, for embeddings made there, MiB.")
    ] = 1024,
    spill_dir: Annotated[
        Path | None, typer.Option(help="Where embeddings go that memory has no room for.")
    ] = None,
    spill: Annotated[int, typer.Option(min=1, help="Most that may lie there, MiB.")] = 8192,
    queue: Annotated[int, typer.Option(min=1, help="Uploads in progress; more get 429.")] = 32,
    memory: Annotated[
        int, typer.Option(min=96, help="Memory for images and masks in the making, MiB.")
    ] = 320,
    connections: Annotated[int, typer.Option(min=8, help="Most open connections.")] = 512,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request.")] = 60.0,
    shutdown: Annotated[
        float, typer.Option(min=0, help="Seconds for requests that were taken before a stop.")
    ] = 20.0,
    ray: RayOption = None,
    replicas: Annotated[
        str,
        typer.Option(help="With --ray: how many, or LEAST:MOST, between which they follow load."),
    ] = "1",
    images: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="With --ray: where uploaded images are kept, a folder that all nodes share or an "
            "address such as s3://bucket/images.",
        ),
    ] = None,
) -> None:
    """Serve a model: encode an image once, then answer prompts in milliseconds."""
    from samtrt.errors import ClusterError
    from samtrt.server.settings import MIB, Settings, check_exposure, read_token

    token = read_token(token_file, os.environ.get("SAMTRT_TOKEN"))
    settings = Settings(
        token=token,
        allowed_hosts=check_exposure(host, token, insecure),
        cors_origins=tuple(cors_origin or ()),
        max_upload_bytes=max_upload * MIB,
        max_pixels=max_pixels * 1_000_000,
        cache_bytes=cache * MIB,
        device_cache_bytes=device_cache * MIB,
        spill_dir=spill_dir,
        spill_bytes=spill * MIB,
        upload_slots=queue,
        memory_bytes=memory * MIB,
        max_connections=connections,
        request_seconds=timeout,
        shutdown_seconds=shutdown,
    )
    engines = Engines(directory, backend, device, threads, checkpoint, pixels)
    if ray is not None:
        _serve_on(ray, engines, settings, replicas, images, host, port)
        return
    if images is not None or replicas != "1":
        raise ClusterError("--replicas and --images are for a server on a cluster: give --ray")

    from samtrt.server.process import run

    run(engines.load(), settings, directory, host, port)


def _serve_on(
    address: str,
    engines: Engines,
    settings: Settings,
    replicas: str,
    images: str | None,
    host: str,
    port: int,
) -> None:
    """Serve on a Ray cluster."""
    from samtrt.cluster.serving.deployment import Replicas, build, check_images, run
    from samtrt.errors import ClusterError

    least, _, most = replicas.partition(":")
    if not least.isdecimal() or not (most or least).isdecimal():
        raise ClusterError(f"--replicas is a number, or LEAST:MOST, not {replicas}")
    place = check_images(images)
    engines = engines.on_cluster(address)
    wanted = Replicas(
        int(least),
        int(most or least),
        cpus=0 if engines.on_gpu else engines.threads,
        gpus=int(engines.on_gpu),
    )
    run(build(engines, settings, place, wanted), address, host, port)
