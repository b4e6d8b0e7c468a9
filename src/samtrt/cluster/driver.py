"""The process that talks to Ray, one for each time that a run is connected to its cluster.

    python -m samtrt.cluster.driver < pickled Request

It tells what happens in lines on its standard output (`messages`), and ends when its standard input
does, which its parent holds.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from samtrt._version import __version__
from samtrt.cluster import worker
from samtrt.cluster.ledger import Ledger
from samtrt.cluster.messages import (
    Alive,
    Connected,
    Ended,
    Message,
    Opened,
    Refused,
    Request,
    Said,
    Told,
    send,
)
from samtrt.errors import ClusterError, MissingExtraError

try:
    import ray
    import ray.data
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise MissingExtraError("--ray", "ray", "ray") from None

LOCAL = "local"
"""Address of a cluster that is this machine alone, and ends with the run."""

MOST_IMAGES = 128
"""In one block: what a worker gets at a time, for which Ray takes tens of milliseconds."""
BLOCKS_A_WORKER = 4
"""At least, so that all end at about the same time."""

CHECK_SECONDS = 120.0
"""For every node to answer whether it can do the job."""
BEAT_SECONDS = 1.0
"""Between two signs of life."""


class Teller:
    """Sends messages, from several threads."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._lock = out, threading.Lock()

    def __call__(self, message: Message) -> None:
        with self._lock:
            send(message, self._out)


def run(request: Request, tell: Teller) -> None:
    """Connect, check the nodes, and do the images.

    Raises:
        ClusterError: where that cannot be done.
        RayError: where the cluster is lost.
    """
    connect(request.address)
    tell(Connected(ray.get_runtime_context().gcs_address))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger: Any = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()
    beat = threading.Thread(target=_beat, args=(ledger, tell), daemon=True)
    beat.start()
    nodes = {node["NodeID"]: slots_of(node, request) for node in ray.nodes() if node["Alive"]}
    check_nodes([node for node, slots in nodes.items() if slots], request)
    slots = sum(nodes.values())
    if not slots:
        what = "GPU" if request.gpus else f"{request.cpus} cores"
        tell(Said(f"no node of the cluster has {what} for a worker: waiting for one"))
    opened = False
    for told in results(request, ledger, max(slots, 1)):
        if not opened and (settings := ray.get(ledger.settings.remote())):
            opened = True
            tell(Opened(settings))
        tell(told)
    tell(Ended())


def connect(address: str) -> None:
    """Connect this process to a cluster.

    Raises:
        ClusterError: where there is none, or it cannot be joined.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            ray.init(include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (RuntimeError, ValueError, OSError, RayError) as error:  # OSError: ConnectionError
        reason = " ".join(str(error).split())
        if "ersion mismatch" in reason:
            raise ClusterError(f"the nodes of {address} have other versions: {reason}") from None
        raise ClusterError(
            f"cannot use the Ray cluster at {address} from here: start one with 'ray start "
            "--head', or make this machine a node of it with 'ray start --address=HOST:PORT' "
            f"({reason})"
        ) from None


def slots_of(node: dict[str, Any], request: Request) -> int:
    """Return how many workers a node has room for."""
    has = node["Resources"]
    if request.gpus:
        return int(has.get("GPU", 0)) // request.gpus
    return int(has.get("CPU", 0)) // request.cpus


def check_nodes(nodes: list[str], request: Request) -> None:
    """Ask every node whether it can do the job.

    Raises:
        ClusterError: where one cannot.
    """
    check = ray.remote(worker.check)
    asked = {
        check.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(__version__, request.job, request.directory): node
        for node in nodes
    }
    places = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=CHECK_SECONDS)
    for answer in ready:
        place = f"node {places[asked[answer]]}"
        try:
            reason = ray.get(answer)
        except RayTaskError as error:
            text = str(error.cause)
            if "No module named 'samtrt" in str(error):
                text = f"it has no samtrt: install samtrt[ray] {__version__} there"
            raise ClusterError(f"{place}: {text}") from None
        if reason:
            raise ClusterError(reason)
    if late:
        place = places[asked[late[0]]]
        raise ClusterError(f"node {place} did not answer within {CHECK_SECONDS:g} s")


def results(request: Request, ledger: Any, slots: int) -> Iterator[Told]:
    """Do the images in actors; yield what became of each, once."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    size = min(MOST_IMAGES, math.ceil(len(request.tasks) / (BLOCKS_A_WORKER * slots)))
    blocks = worker.split(request.tasks, max(size, 1))
    rows = [
        {worker.BLOCK: number, worker.TASKS: pickle.dumps(tasks)}
        for number, tasks in enumerate(blocks)
    ]
    arguments = {
        "version": __version__,
        "packed": request.job,
        "ledger": ledger,
        "trace": request.trace,
    }
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        worker.Worker,
        fn_constructor_kwargs=arguments,
        batch_size=None,  # a block is a row
        num_cpus=None if request.gpus else request.cpus,
        num_gpus=request.gpus or None,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, initial_size=min(slots, len(rows)), max_size=len(rows)
        ),
    )
    for row in data.iter_rows():
        said = pickle.loads(row[worker.SAID])
        if isinstance(said, str):
            raise ClusterError(said)
        yield from said


def _beat(ledger: Any, tell: Teller) -> None:
    """Tell that the cluster lives, for as long as both its head and the ledger answer."""
    while True:
        try:
            images = ray.get(ledger.images.remote(), timeout=10 * BEAT_SECONDS)
            ray.nodes()
        except Exception:
            return  # the parent notices
        tell(Alive(images))
        time.sleep(BEAT_SECONDS)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Do what standard input says."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed
    tell = Teller(out)
    request: Request = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run(request, tell)
    except ClusterError as error:
        tell(Refused(str(error)))
    except RayError as error:
        if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
            raise  # a mistake of ours
        tell(Refused(" ".join(str(error).split()), lost=True))
    # Leaving the cluster in an orderly way waits for a head that may be gone.
    os._exit(0)


if __name__ == "__main__":
    main()
