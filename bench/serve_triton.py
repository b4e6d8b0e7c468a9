"""What Triton adds to an image and a click, and what one more worker gives.

    python bench/serve_triton.py DIR                     # 1 and 2 workers
    python bench/serve_triton.py DIR --json triton.json

Writes a repository of a model directory, starts `tritonserver` on it as processes of its own (the
Python backend with ONNX Runtime, one thread for each worker), and has clients upload images and
click on them over gRPC. Each mask is compared with a direct call's. Processor time is counted for
each kind of process, so that figures of a busy machine say something, too. Exits with 1 where a
mask is another one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from samtrt import BackendOptions, Predictor, TritonClient, read_image
from samtrt.assets import DEMO_PHOTOGRAPH
from samtrt.triton.image import TritonImage
from samtrt.triton.models import Scaling
from samtrt.triton.repository import RepositoryOptions, write_repository
from samtrt.triton.server import Listening, command, find_server

PHOTO = DEMO_PHOTOGRAPH
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Work:
    """Images, points on each, and what a direct call answers.

    Attributes:
        images: Bytes of files.
        points: [x, y] of each image's clicks.
        scores: Of each image and click, the predicted IoU [3].
        areas: Of each image and click, pixels of the three masks.
    """

    images: list[bytes]
    points: list[list[list[float]]]
    scores: list[list[Any]]
    areas: list[list[list[int]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--clicks", type=int, default=10, help="on each image")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    work = Work([], [], [], [])
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "images": options.images,
        "clicks": options.clicks * options.images,
        "clients": options.clients,
        "direct": direct(options, work),
        "triton": {},
    }
    show("direct", report["direct"])
    for workers in options.workers:
        report["triton"][str(workers)] = through_triton(options, work, workers)
        show(f"{workers} workers", report["triton"][str(workers)])
    report["load_average_after"] = os.getloadavg()[0]
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(any(one["wrong"] for one in report["triton"].values()))


def direct(options: argparse.Namespace, work: Work) -> dict[str, Any]:
    """Make the work, and do it in this process."""
    photo = Image.fromarray(read_image(PHOTO))
    rng = np.random.default_rng(0)
    with (
        Predictor.load(options.directory, options=BackendOptions(threads=1)) as predictor,
        tempfile.TemporaryDirectory() as place,
    ):
        predictor.encode(np.array(photo))  # the first run takes memory
        figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number in range(options.images):
            path = Path(place) / f"{number}.jpg"
            photo.crop((number, 0, photo.width, photo.height)).save(path, quality=90)
            work.images.append(path.read_bytes())
            with timed(figures["image"]):
                predictor.set_image(read_image(path))
            height, width = predictor.original_size
            points = rng.uniform((0, 0), (width, height), (options.clicks, 2)).tolist()
            work.points.append(points)
            scores, areas = [], []
            for point in points:
                with timed(figures["click"]):
                    found = predictor.predict([point], [1])
                scores.append(found.iou_predictions)
                areas.append(found.masks.sum(axis=(1, 2)).tolist())
            work.scores.append(scores)
            work.areas.append(areas)
    return {
        name: {
            "cpu_ms": 1000 * statistics.mean(cpu for _, cpu in both),
            "p50_ms": 1000 * statistics.median(wall for wall, _ in both),
        }
        for name, both in figures.items()
    }


@contextmanager
def timed(into: list[tuple[float, float]]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    into.append((time.perf_counter() - wall, time.process_time() - cpu))


def through_triton(options: argparse.Namespace, work: Work, workers: int) -> dict[str, Any]:
    """Do the work with clients of a server that has this many workers of each kind."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scaling = Scaling(instances=workers, auto_instances=0, encoders=workers, decoders=workers)
        write_repository(
            options.directory, place / "models", RepositoryOptions(threads=1, scaling=scaling)
        )
        process, address = stack.enter_context(server(place / "models", place / "log"))
        client = stack.enter_context(TritonClient(address))
        client.upload(PHOTO).delete()
        pool = stack.enter_context(ThreadPoolExecutor(options.clients))
        images: list[TritonImage] = []

        def upload(number: int) -> None:
            images.append(client.upload(work.images[number]))

        found = {"image": measure(process, pool, upload, range(options.images))}
        wrong: list[tuple[int, int]] = []
        lock = threading.Lock()
        by_size = {image.id: image for image in images}
        order = [next(one for one in by_size.values() if one._data == data) for data in work.images]

        def click(which: tuple[int, int]) -> None:
            number, index = which
            answer = order[number].predict([work.points[number][index]], [1], low_res_logits=False)
            same = np.array_equal(answer.iou_predictions, work.scores[number][index])
            if not same or answer.masks.sum(axis=(1, 2)).tolist() != work.areas[number][index]:
                with lock:
                    wrong.append(which)

        # Clients take turns on all images, as users do.
        clicks = [(n, i) for i in range(options.clicks) for n in range(options.images)]
        found["click"] = measure(process, pool, click, clicks)
        for image in images:
            image.delete()
    return {**found, "wrong": len(wrong), "compared": len(clicks)}


def measure(
    process: subprocess.Popen[bytes],
    pool: ThreadPoolExecutor,
    work: Callable[[Any], None],
    items: Any,
) -> dict[str, Any]:
    """Do some work with several clients; return what it took."""
    seconds: list[float] = []

    def one(item: Any) -> None:
        start = time.perf_counter()
        work(item)
        seconds.append(time.perf_counter() - start)

    before, start, own = cpu_of(process.pid), time.perf_counter(), time.process_time()
    list(pool.map(one, items))
    wall, client = time.perf_counter() - start, time.process_time() - own
    after, count = cpu_of(process.pid), len(seconds)
    return {
        "a_second": count / wall,
        "p50_ms": 1000 * statistics.median(seconds),
        "p95_ms": 1000 * statistics.quantiles(seconds, n=20)[-1],
        "cpu_ms": {
            **{name: 1000 * (after[name] - before[name]) / count for name in sorted(after)},
            "client": 1000 * client / count,
        },
    }


def cpu_of(server_id: int) -> dict[str, float]:
    """Return processor seconds so far: of the server, and of each model's processes."""
    found: dict[str, float] = defaultdict(float)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(entry.name) != server_id and int(fields[1]) != server_id:
            continue
        ours = [word for word in words if word.endswith(b"/model.py")]
        name = Path(ours[0].decode()).parent.parent.name if ours else "tritonserver"
        found[name] += (int(fields[11]) + int(fields[12])) / TICK
    return dict(found)


@contextmanager
def server(
    repository: Path, log: Path, more: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a Triton server on free ports, with more options; yield its process and its address for
    gRPC."""
    installation = find_server()
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        listening = Listening("127.0.0.1", *(int(one.getsockname()[1]) for one in sockets))
    environment = {**os.environ, **installation.environment}
    with log.open("wb") as out:
        words = command(installation, repository, listening, more)
        process = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
    try:
        while process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{listening.http_port}/v2/health/ready").is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        else:
            raise SystemExit(log.read_text())
        yield process, f"grpc://127.0.0.1:{listening.grpc_port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def show(name: str, figures: dict[str, Any]) -> None:
    for kind in ("image", "click"):
        one = figures[kind]
        cpu = one["cpu_ms"]
        total = sum(cpu.values()) if isinstance(cpu, dict) else cpu
        parts = ", ".join(f"{k} {v:.1f}" for k, v in cpu.items()) if isinstance(cpu, dict) else ""
        rate = f", {one['a_second']:.2f} a second" if "a_second" in one else ""
        print(f"{name}: {kind}: p50 {one['p50_ms']:.0f} ms{rate}, processor {total:.1f} ms {parts}")
    if "wrong" in figures:
        print(f"{name}: {figures['wrong']} of {figures['compared']} answers are others")


if __name__ == "__main__":
    sys.exit(main())
