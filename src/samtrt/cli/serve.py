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
from samtrt.cli.reading import note

if TYPE_CHECKING:
    from samtrt.predictor import Predictor
    from samtrt.server.settings import Settings
    from samtrt.video.predictor import VideoPredictor


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
    videos: Annotated[
        Path | None,
        typer.Option("--videos", metavar="DIR", help="Folder whose videos clients may name."),
    ] = None,
    max_video: Annotated[int, typer.Option(min=1, help="Largest uploaded video, MiB.")] = 256,
    open_videos: Annotated[int, typer.Option(min=1, help="Most open videos.")] = 4,
    video_memory: Annotated[
        int, typer.Option(min=16, help="Of each, for what is remembered of it, and for masks, MiB.")
    ] = 256,
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
    from samtrt.server.settings import (
        MIB,
        Settings,
        SettingsError,
        check_exposure,
        read_token,
    )

    if videos is not None and not videos.is_dir():
        raise SettingsError(f"--videos {videos} is no folder")
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
        videos_dir=videos,
        max_video_bytes=max_video * MIB,
        video_slots=open_videos,
        video_bytes=video_memory * MIB,
        upload_slots=queue,
        memory_bytes=memory * MIB,
        max_connections=connections,
        request_seconds=timeout,
        shutdown_seconds=shutdown,
    )
    engines = Engines(directory, backend, device, threads, checkpoint, pixels)
    if ray is not None:
        if videos is not None:
            raise ClusterError("videos are not served on a cluster: leave out --videos or --ray")
        _serve_on(ray, engines, settings, replicas, images, host, port)
        return
    if images is not None or replicas != "1":
        raise ClusterError("--replicas and --images are for a server on a cluster: give --ray")

    from samtrt.server.process import run

    predictor = engines.load()
    run(predictor, settings, directory, host, port, _video(engines, predictor, videos))


def _video(engines: Engines, predictor: Predictor, videos: Path | None) -> VideoPredictor | None:
    """Open what follows objects through videos; None where the model has no such engines here.

    Raises:
        SamtrtError: where videos are asked for by `--videos`, and cannot be served.
    """
    from samtrt.errors import ManifestError, SamtrtError

    if predictor.manifest.video is None:
        if videos is not None:
            raise ManifestError(
                f"{predictor.manifest.model} follows no objects through videos: leave out "
                "--videos, or serve a SAM 2 exported with --video"
            )
        return None
    try:
        return engines.load_video(predictor)
    except SamtrtError as error:
        if videos is not None:
            raise
        note(f"note: videos are not served: {error}")
        return None


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
