"""What Ray Serve runs: for `samtrt serve --ray`, and for configuration files, as KubeRay has them.

Their `import_path` is `samtrt.cluster.serving.deployment:application`, and their `args` are
`Arguments`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel
from ray import serve
from ray.serve.config import AutoscalingConfig, HTTPOptions, RequestRouterConfig

from samtrt import tracing
from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, PixelWork
from samtrt.cluster.places import Place, is_address
from samtrt.errors import ClusterError
from samtrt.predictor import Predictor
from samtrt.server.settings import MIB, Settings, check_exposure

NAME = "samtrt"
"""Of the application, unless it is given another."""

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


@dataclass(frozen=True)
class ServedEngines:
    """Which engines a replica opens."""

    directory: Path
    backend: BackendName
    options: BackendOptions

    def load(self) -> Predictor:
        """Open both."""
        return Predictor.load(self.directory, self.backend, self.options)


@dataclass(frozen=True)
class Replicas:
    """How many replicas there are, and what each takes.

    Attributes:
        least: At least so many.
        most: At most; between them, their number follows the requests.
        ongoing: Requests in progress on a replica that its number is adjusted to.
        cpus: Cores of one replica.
        gpus: GPUs of one.
    """

    least: int = 1
    most: int = 1
    ongoing: float = 16.0
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ClusterError(
                f"replicas are 1 or more, the least first, not {self.least}:{self.most}"
            )


class Arguments(BaseModel):
    """`args` of an application in Ray Serve's configuration.

    Attributes:
        directory: The model directory, on every node.
        images: Where uploaded images are kept: a shared folder, or an address of fsspec.
        token_file: File with the clients' token, on every node; None for open access.
    """

    directory: Path
    images: str
    backend: BackendName = BackendName.ONNXRUNTIME
    device: str | None = None
    threads: int = 0
    pixels: PixelWork = PixelWork.DEVICE
    token_file: Path | None = None
    insecure: bool = False
    cache_mib: int = 1024
    device_cache_mib: int = 1024
    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing_requests: float = 16.0
    cpus: float = 1.0
    gpus: float = 0.0


def application(args: Arguments) -> Any:
    """Build the application of a configuration file.

    Raises:
        SamtrtError: where it would be open to everybody without saying so, and the like.
    """
    from samtrt.server.settings import read_token

    token = read_token(args.token_file, None)
    settings = Settings(
        token=token,
        allowed_hosts=check_exposure("0.0.0.0", token, args.insecure),
        cache_bytes=args.cache_mib * MIB,
        device_cache_bytes=args.device_cache_mib * MIB,
    )
    options = BackendOptions(device=args.device, threads=args.threads, pixels=args.pixels)
    engines = ServedEngines(args.directory, args.backend, options)
    replicas = Replicas(
        args.min_replicas, args.max_replicas, args.target_ongoing_requests, args.cpus, args.gpus
    )
    return build(engines, settings, args.images, replicas)


def build(engines: Any, settings: Settings, images: str, replicas: Replicas) -> Any:
    """Return the application: one deployment with the engines, one that clients reach."""
    from samtrt.cluster.serving.ingress import Ingress
    from samtrt.cluster.serving.replica import Replica

    scale = AutoscalingConfig(
        min_replicas=replicas.least,
        max_replicas=replicas.most,
        target_ongoing_requests=replicas.ongoing,
    )
    most = settings.upload_slots + settings.prompt_slots
    # Only where somebody wants traces: processes of another environment start more slowly.
    more = {"runtime_env": {"env_vars": wanted}} if (wanted := tracing.environment()) else {}
    model = serve.deployment(
        Replica,
        name="model",
        autoscaling_config=scale,
        max_ongoing_requests=most,
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus, **more},
    )
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas="auto" if replicas.most > 1 else 1,
        max_ongoing_requests=most,
        ray_actor_options={"num_cpus": 0, **more},
    )
    return ingress.bind(model.bind(engines, settings, images), settings)


def run(application: Any, address: str, host: str, port: int, name: str = NAME) -> None:
    """Serve on a cluster until SIGINT or SIGTERM.

    Raises:
        ClusterError: where the cluster cannot be used, or the replicas do not start.
    """
    from samtrt.cluster.driver import connect

    connect(address)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve.start(proxy_location="EveryNode", http_options=HTTPOptions(host=host, port=port))
        with _telling(name):
            serve.run(application, name=name, route_prefix="/")
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise ClusterError(_why(name, error)) from None
    print(f"samtrt serves on port {port} of every node of the cluster", flush=True)
    stop.wait()
    serve.delete(name)


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """Say what the replicas wait for while they start, such as a node that has room for them."""
    started = threading.Event()

    def tell() -> None:
        said = ""
        while not started.wait(10.0):
            with suppress(Exception):  # it is not there yet, or not any more
                messages = _messages(name)
                if messages and messages[0] != said:
                    said = messages[0]
                    print(f"samtrt: {' '.join(said.split())}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        started.set()


def _messages(name: str) -> list[str]:
    deployments = serve.status().applications[name].deployments.values()
    return [one.message for one in deployments if one.message]


def _why(name: str, error: Exception) -> str:
    """Say why replicas do not start, in a line."""
    said: list[str] = []
    with suppress(Exception):
        said = _messages(name)
    lines = [line for text in [*said, str(error)] for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error: " in line]
    return f"the server does not start: {(errors or lines or ['no reason is given'])[-1].strip()}"


def check_images(images: str | None) -> str:
    """Return where images are kept, absolute.

    Raises:
        ClusterError: where that is not said, or is no address.
    """
    if images is None:
        raise ClusterError(
            "serve --ray needs --images: a folder that all nodes share, or an address such as "
            "s3://bucket/images, where uploaded images are kept for replicas that do not have them"
        )
    place = images if is_address(images) else str(Path(images).absolute())
    Place(place)
    return place
