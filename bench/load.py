"""Load a server with many clients at once and check every answer against a direct call.

    python bench/load.py DIR                      # 200 clients, 2 minutes
    python bench/load.py DIR --clients 50 --seconds 30 --json load.json

Starts `samtrt serve DIR` as a process of its own. Each client uploads an image, asks several
prompts about it, sometimes fetches the embedding or finds all objects, deletes the image, and
begins again. Exits with 1 if any answer was wrong, any status was 5xx, or memory ran away.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

from samtrt.masks import rle
from samtrt.masks.logits import mask_iou
from samtrt.predictor import Predictor
from target import Target

LEAST_IOU = 0.99
SIZES = ((480, 640), (600, 400), (1080, 1920), (333, 1000), (768, 768), (1500, 1000))
PROMPTS = 6  # different ones for each image


@dataclass
class Case:
    """An image, prompts on it, and what a direct call answers to each."""

    data: bytes
    size: tuple[int, int]
    prompts: list[dict[str, Any]] = field(default_factory=list)
    expected: list[list[dict[str, Any]]] = field(default_factory=list)
    embedding: bytes = b""


@dataclass
class Tally:
    """What happened, from all clients."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    compared: int = 0
    identical: int = 0
    least_iou: float = 1.0
    faults: list[str] = field(default_factory=list)


def make_case(seed: int, predictor: Predictor) -> Case:
    """Draw an image of ellipses, choose prompts, and answer them directly."""
    rng = np.random.default_rng(seed)
    height, width = SIZES[seed % len(SIZES)]
    picture = Image.new("RGB", (width, height), tuple(int(c) for c in rng.integers(40, 200, 3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        rx, ry = rng.integers(20, width // 4), rng.integers(20, height // 4)
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)
    out = io.BytesIO()
    picture.save(out, "PNG")
    case = Case(out.getvalue(), (height, width))
    embedding = predictor.encode(np.asarray(picture))
    case.embedding = embedding.features.astype("<f4").tobytes()
    bound = predictor.bind(embedding)
    for i in range(PROMPTS):
        count = int(rng.integers(1, 5))
        prompt: dict[str, Any] = {}
        if i % 3 != 2:
            points = rng.uniform(0, 1, (count, 2)) * (width - 1, height - 1)
            prompt["points"] = points.round(2).tolist()
            prompt["labels"] = [1, *rng.integers(0, 2, count - 1).tolist()]
        if i % 3 != 0:
            x, y = rng.uniform(0, 0.5, 2) * (width, height)
            prompt["box"] = [round(float(v), 2) for v in (x, y, x + width / 3, y + height / 3)]
        masks, scores, _ = bound.predict(
            prompt.get("points"), prompt.get("labels"), prompt.get("box")
        )
        case.prompts.append(prompt)
        case.expected.append(
            [
                {"rle": rle.compress(rle.encode(mask)), "score": float(score)}
                for mask, score in zip(masks, scores, strict=True)
            ]
        )
    return case


def check_masks(tally: Tally, got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        tally.compared += 1
        if ours["rle"] == theirs["rle"]:
            tally.identical += 1
            continue
        iou = mask_iou(rle.decode(ours["rle"]), rle.decode(theirs["rle"]))
        tally.least_iou = min(tally.least_iou, iou)
        if iou < LEAST_IOU or abs(ours["score"] - theirs["score"]) > 0.01:
            tally.faults.append(f"a mask has IoU {iou:.4f} with the direct call's")


class Visitor:
    """One client."""

    def __init__(
        self, client: httpx.AsyncClient, cases: list[Case], tally: Tally, seed: int
    ) -> None:
        self.client = client
        self.cases = cases
        self.tally = tally
        self.random = random.Random(seed)

    async def call(self, what: str, method: str, path: str, **options: Any) -> httpx.Response:
        start = time.perf_counter()
        response = await self.client.request(method, path, **options)
        self.tally.statuses[f"{what} {response.status_code}"] += 1
        if response.is_success:
            self.tally.seconds[what].append(time.perf_counter() - start)
        elif response.status_code >= 500:
            self.tally.faults.append(f"{what}: {response.status_code} {response.text[:200]}")
        elif response.status_code == 429:
            await asyncio.sleep(int(response.headers["Retry-After"]) * self.random.uniform(1, 2))
        return response

    async def run(self, end: float, shared: list[str]) -> None:
        while time.monotonic() < end:
            number = self.random.randrange(len(self.cases))
            if shared:
                await self.share(self.cases[number], shared[number])
            else:
                await self.visit(self.cases[number], end)

    async def share(self, case: Case, path: str) -> None:
        """Ask about an image that others ask about too; it must be there."""
        if self.random.random() < 0.1:
            await self.fetch_embedding(case, path)
        elif not await self.ask(case, path):
            self.tally.faults.append("an image that nobody deleted is lost")

    async def visit(self, case: Case, end: float) -> None:
        headers = {"Content-Type": "image/png"}
        upload = await self.call("upload", "POST", "/v1/images", content=case.data, headers=headers)
        if upload.status_code != 201:
            return
        answer = upload.json()
        if (answer["height"], answer["width"]) != case.size:
            self.tally.faults.append("an upload was answered with another image's size")
        path = f"/v1/images/{answer['id']}"
        for _ in range(self.random.randint(10, 40)):
            if time.monotonic() > end:
                return
            if self.random.random() < 0.05:
                await self.fetch_embedding(case, path)
            elif not await self.ask(case, path):
                return
            await asyncio.sleep(self.random.uniform(0, 0.5))  # people think
        if self.random.random() < 0.5:
            await self.call("delete", "DELETE", path)

    async def fetch_embedding(self, case: Case, path: str) -> None:
        response = await self.call("embedding", "GET", f"{path}/embedding")
        if response.is_success:
            got, expected = (np.frombuffer(d, "<f4") for d in (response.content, case.embedding))
            if not np.allclose(got, expected, rtol=1e-3, atol=1e-3):
                self.tally.faults.append("an embedding differs from the direct call's")

    async def ask(self, case: Case, path: str) -> bool:
        """Ask one to three prompts; False where the image is gone."""
        chosen = self.random.sample(range(PROMPTS), self.random.randint(1, 3))
        body = {"prompts": [case.prompts[i] for i in chosen]}
        response = await self.call("prompt", "POST", f"{path}/masks", json=body)
        if response.is_success:
            for result, i in zip(response.json()["results"], chosen, strict=True):
                check_masks(self.tally, result["masks"], case.expected[i])
        return response.status_code in (200, 429)


async def visit_all(
    url: str, cases: list[Case], clients: int, seconds: float, shared: bool
) -> Tally:
    tally = Tally()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=120, limits=limits, trust_env=False
    ) as client:
        paths = [await upload(client, case) for case in cases] if shared else []
        end = time.monotonic() + seconds
        visitors = [Visitor(client, cases, tally, seed) for seed in range(clients)]
        for done in await asyncio.gather(
            *(v.run(end, paths) for v in visitors), return_exceptions=True
        ):
            if isinstance(done, BaseException):
                tally.faults.append(f"a client failed: {done!r}")
    return tally


async def upload(client: httpx.AsyncClient, case: Case) -> str:
    """Send an image; return the path of what is asked about it."""
    headers = {"Content-Type": "image/png"}
    response = await client.post("/v1/images", content=case.data, headers=headers)
    return f"/v1/images/{response.raise_for_status().json()['id']}"


def report(tally: Tally, memory: list[float], arguments: argparse.Namespace) -> dict[str, Any]:
    def part(what: str) -> dict[str, float]:
        values = sorted(tally.seconds[what])
        p50, p95, p99 = (
            round(1000 * values[min(len(values) - 1, int(q * len(values)))], 1)
            for q in (0.5, 0.95, 0.99)
        )
        return {"count": len(values), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}

    third = max(1, len(memory) // 3)
    return {
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "statuses": dict(sorted(tally.statuses.items())),
        "latency": {what: part(what) for what in sorted(tally.seconds)},
        "masks_compared": tally.compared,
        "masks_identical": tally.identical,
        "least_iou_of_the_rest": tally.least_iou,
        "memory_mb": {
            "start": round(memory[0]),
            "mean_of_middle_third": round(float(np.mean(memory[third : 2 * third]))),
            "mean_of_last_third": round(float(np.mean(memory[2 * third :]))),
            "peak": round(max(memory)),
        },
        "faults": tally.faults[:20],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("directory", type=Path, help="model directory")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--images", type=int, default=12, help="different images")
    parser.add_argument("--cache", type=int, default=64, help="server's memory for embeddings, MiB")
    parser.add_argument("--threads", type=int, default=1, help="server's threads per operation")
    parser.add_argument("--queue", type=int, default=8, help="server's uploads in progress")
    parser.add_argument("--spill-dir", type=Path, help="where the server puts what does not fit")
    parser.add_argument(
        "--shared", action="store_true", help="all ask about the same images, which nobody deletes"
    )
    parser.add_argument("--memory", type=float, default=4096, help="most the server may use")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    with Predictor.load(arguments.directory) as predictor:
        cases = [make_case(seed, predictor) for seed in range(arguments.images)]
    names = ("cache", "threads", "queue")
    options = [text for n in names for text in (f"--{n}", str(getattr(arguments, n)))]
    if arguments.spill_dir:
        options += ["--spill-dir", str(arguments.spill_dir)]
    server = Target(arguments.directory, *options)
    server.what = "load"
    tally = asyncio.run(
        visit_all(server.url, cases, arguments.clients, arguments.seconds, arguments.shared)
    )
    _, code = server.stop(60)
    if code:
        tally.faults.append(f"the server ended with {code}")
    if server.peak > arguments.memory:
        tally.faults.append(f"the server used {server.peak:.0f} MiB")
    if not tally.compared:
        tally.faults.append("nothing was compared")
    result = report(tally, server.samples, arguments)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
