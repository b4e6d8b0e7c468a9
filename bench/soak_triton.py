"""Load on a Triton server for a time: how often does it end, and does it ever give another mask?

    python bench/soak_triton.py DIR --minutes 10
    python bench/soak_triton.py DIR --minutes 10 --shared-mib 1     # its memory has to grow

Clients upload, click and delete over gRPC as fast as they can, on images of several sizes; each
mask is compared with a direct call's. A server that ends is noted, with its signal and the end of
its log, and started again. Exits with 1 where it ended, a mask was another one, or a request failed
while the server lived.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samtrt import TritonClient
from samtrt.errors import SamtrtError
from samtrt.triton.models import Scaling
from samtrt.triton.repository import RepositoryOptions, write_repository
from serve_triton import Work, direct, server

LOG_END = 4000
"""Characters of a log that are kept: Triton writes its own stack there."""


@dataclass
class Soak:
    """What happens, told by all clients.

    Attributes:
        ends: The moment that clients stop, by `time.monotonic`.
        address: Of the server that runs; None while none does.
        counts: Of uploads, clicks, wrong masks, and requests that failed while the server lived.
        failures: Each kind of failure's first line.
    """

    ends: float
    address: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, failure: str = "") -> None:
        with self.lock:
            self.counts[what] += 1
            if failure:
                self.failures[failure[:200]] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--clicks", type=int, default=6, help="known answers on each image")
    parser.add_argument("--workers", type=int, default=2, help="of each kind")
    parser.add_argument(
        "--shared-mib", type=int, help="memory that models share from the start; default: ours"
    )
    parser.add_argument("--cache-mib", type=int, default=4, help="of each instance")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    work = Work([], [], [], [])
    direct(options, work)
    soak = Soak(time.monotonic() + 60 * options.minutes)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        scaling = Scaling(
            instances=options.workers,
            auto_instances=0,
            encoders=options.workers,
            decoders=options.workers,
        )
        # Few images are kept, so that there is always something to throw away and send again.
        kept = RepositoryOptions(threads=1, scaling=scaling, cache_bytes=options.cache_mib << 20)
        write_repository(options.directory, Path(place) / "models", kept)
        clients = [
            threading.Thread(target=click_on, args=(soak, work, number))
            for number in range(options.clients)
        ]
        for client in clients:
            client.start()
        crashes, memory = watch(soak, Path(place), options)
        for client in clients:
            client.join()
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_average": [load, os.getloadavg()[0]],
        "minutes": options.minutes,
        "clients": options.clients,
        "workers": options.workers,
        "shared_mib": options.shared_mib,
        "counts": dict(soak.counts),
        "failures": dict(soak.failures),
        "memory_mib": memory,
        "crashes": crashes,
    }
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(bool(crashes or soak.counts["wrong"] or soak.counts["failed"]))


def watch(
    soak: Soak, place: Path, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[float]]:
    """Keep a server running until the end; return how it ended before, and its memory in MiB, with
    its models' processes, after each start and at the end."""
    crashes: list[dict[str, Any]] = []
    memory: list[float] = []
    begun = time.monotonic()
    more = []
    if options.shared_mib is not None:
        more = ["--backend-config", f"python,shm-default-byte-size={options.shared_mib << 20}"]
    while time.monotonic() < soak.ends:
        log = place / f"log-{len(crashes)}"
        with server(place / "models", log, more) as (process, address):
            memory.append(memory_of(process.pid))
            soak.address = address
            while time.monotonic() < soak.ends and process.poll() is None:
                time.sleep(0.5)
            ended = process.poll()
            if ended is None:
                memory.append(memory_of(process.pid))
                while any(one.name.startswith("soak") for one in threading.enumerate()):
                    time.sleep(0.1)
            soak.address = None
        if ended is not None:
            name = signal.Signals(-ended).name if ended < 0 else f"exit code {ended}"
            text = log.read_text(encoding="utf-8", errors="replace")
            crashes.append(
                {"after_s": round(time.monotonic() - begun), "how": name, "log": text[-LOG_END:]}
            )
            print(f"the server ended: {name}", file=sys.stderr)
    return crashes, memory


def click_on(soak: Soak, work: Work, number: int) -> None:
    """Be a client until the end."""
    threading.current_thread().name = f"soak {number}"
    choice = random.Random(number)
    while time.monotonic() < soak.ends:
        address = soak.address
        if address is None:
            time.sleep(0.2)
            continue
        try:
            with TritonClient(address) as client:
                while time.monotonic() < soak.ends:
                    click_on_one(soak, work, client, choice)
        except SamtrtError as error:
            time.sleep(2.0)  # the server may have ended, which is seen within a second
            if soak.address == address:
                soak.count("failed", f"{type(error).__name__}: {error}".splitlines()[0])


def click_on_one(soak: Soak, work: Work, client: TritonClient, choice: random.Random) -> None:
    """Upload an image, click on it, and delete it."""
    one = choice.randrange(len(work.images))
    with client.upload(work.images[one]) as image:
        soak.count("uploads")
        for _ in range(choice.randint(1, 8)):
            index = choice.randrange(len(work.points[one]))
            logits = choice.random() < 0.5  # answers of two sizes
            found = image.predict([work.points[one][index]], [1], low_res_logits=logits)
            same = np.array_equal(found.iou_predictions, work.scores[one][index])
            same = same and found.masks.sum(axis=(1, 2)).tolist() == work.areas[one][index]
            soak.count("clicks")
            if not same:
                soak.count("wrong")


def memory_of(server_id: int) -> float:
    """Return the resident memory of a server and its models' processes, in MiB."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if server_id in (int(entry.name), parent):
                pages = int((entry / "statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE")
    return round(total / 2**20, 1)


if __name__ == "__main__":
    sys.exit(main())
