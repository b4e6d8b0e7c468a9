"""Attack a server of one's own, on loopback, and count how it ends.

    python bench/attack.py DIR                     # all attacks, about four minutes
    python bench/attack.py DIR --only slow --json attack.json

The attack on videos needs a SAM 2 exported with --video; else it is left out.

Starts `samtrt serve DIR` as a process of its own. Every attack is bounded in count and time. Exits
with 1 if an answer was a 5xx other than a refusal, /healthz took longer than a second, memory went
over the bound, an image was lost, or SIGTERM took longer than promised.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

import attack_payloads as payloads
from attack_videos import videos
from target import Target

SECONDS = 20  # the server's --timeout: attacks that it must cut off end sooner
STOP = 10  # its --shutdown
LAST = 5  # seconds that the server promises for what is left then
HEALTH = 1.0
MEMORY = 1024
OPTIONS = ("--timeout", str(SECONDS), "--shutdown", str(STOP), "--cache", "16", "--threads", "1")


class Attacker:
    """One attacker's view of the target, and how its requests ended."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        self.client = httpx.Client(base_url=target.url, timeout=60, trust_env=False)

    def send(self, method: str, path: str, expect: str = "24", **options: Any) -> Any:
        """Send a request; count its status. A 5xx is a fault but for 503 and 504."""
        try:
            response = self.client.request(method, path, **options)
        except httpx.HTTPError:
            self.ends["closed"] += 1
            return None
        self.ends[str(response.status_code)] += 1
        status = response.status_code
        if str(status)[0] not in expect and status not in (503, 504):
            self.faults.append(f"{method} {path.split('/')[-1]}: {status} {response.text[:80]}")
        return response

    def upload(self, data: bytes, expect: str = "24") -> str | None:
        headers = {"Content-Type": "application/octet-stream"}
        response = self.send("POST", "/v1/images", expect, content=data, headers=headers)
        return response.json()["id"] if response is not None and response.is_success else None

    def ask(self, image_id: str, body: bytes | dict[str, Any], expect: str = "24") -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        path = f"/v1/images/{image_id}/masks"
        return self.send("POST", path, expect, content=content, headers=headers)

    def at_once(self, count: int, work: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(work, range(count)))

    def sockets(self, count: int) -> list[socket.socket]:
        found = []
        for _ in range(count):
            try:
                found.append(socket.create_connection(("127.0.0.1", self.target.port), 5))
            except OSError:
                self.ends["refused"] += 1
        return found

    def closed(self, sockets: list[socket.socket], seconds: float) -> None:
        """Count which connections the server closes within a time."""
        end = time.monotonic() + seconds
        for one in sockets:
            try:
                one.settimeout(max(0.1, end - time.monotonic()))
                while one.recv(1 << 16):
                    pass
                self.ends["closed"] += 1
            except TimeoutError:
                self.ends["still open"] += 1
                self.faults.append("a connection was not closed in time")
            except OSError:
                self.ends["closed"] += 1
            one.close()

    def still_serves(self) -> None:
        """An honest client must be served; 429 only tells it to come back."""
        start = time.monotonic()
        while time.monotonic() - start < 30:
            if image_id := self.upload(payloads.jpeg(640, 480)):
                response = self.ask(image_id, {"prompts": [{"points": [[99, 99]]}]})
                self.send("DELETE", f"/v1/images/{image_id}")
                if response is not None and response.status_code == 200:
                    return
            time.sleep(0.5)
        self.faults.append("an honest client was not served within 30 s")


def corruption(a: Attacker) -> None:
    """Run lengths that overflow, and damaged ones."""
    image_id = a.upload(payloads.jpeg(256, 256), "2") or ""
    texts = payloads.wrapping(256 * 256) + payloads.damaged(256 * 256, 200)
    for text in texts:
        a.ask(image_id, {"prompts": [{"mask": {"size": [256, 256], "counts": text}}]})


def cost(a: Attacker) -> None:
    """Bodies of JSON whose refusal costs more than their reading; eight clients at once."""
    image_id = a.upload(payloads.jpeg(256, 256), "2") or ""
    bodies = list(payloads.json_bodies().values())
    for body in bodies:
        a.ask(image_id, body, "4")
    a.at_once(8, lambda i: [a.ask(image_id, body, "4") for body in (bodies[0], bodies[i])])


def allocation(a: Attacker) -> None:
    """Pictures of a few bytes that ask for gigabytes, and masks of them."""
    for data in (
        payloads.png(2_000_000, 1),
        payloads.png(1, 2_000_000),
        payloads.png(64_000_000, 1),
        payloads.png(8000, 8000),
        payloads.png(30_000, 30_000),
        payloads.strips(12_000_000),
    ):
        a.upload(data, "4")
    large = [payloads.jpeg(7000, 7000), payloads.png(7000, 7000), payloads.png(32_000, 160)]
    a.at_once(6, lambda i: a.upload(large[i % 3]))
    for data in large:
        if image_id := a.upload(data):
            a.send("POST", f"/v1/images/{image_id}/auto", json={"points_per_side": 4})
            a.ask(image_id, {"prompts": [{"points": [[9, 9]]}] * 8})
            a.send("DELETE", f"/v1/images/{image_id}")


def slots(a: Attacker) -> None:
    """Work that goes on when nobody waits for it any more."""
    a.upload(payloads.scans(64, 64, 40_000), "4")
    slow = payloads.scans(3000, 3000, 180)
    image_id = a.upload(payloads.png(7000, 7000)) or ""
    half = payloads.compressed([24_500_000, 24_500_000])
    masks = {"prompts": [{"mask": {"size": [7000, 7000], "counts": half}}] * 64}
    some = {"prompts": masks["prompts"][:3]}

    def work(i: int) -> None:
        if i % 3 == 0:
            a.upload(slow)
        elif i % 3 == 1:
            a.ask(image_id, masks if i < 6 else some)
        else:
            leave(a, f"/v1/images/{image_id}/auto", b'{"points_per_side": 64}')

    a.at_once(12, work)
    a.still_serves()
    figures = a.client.get("/metrics").text
    for line in figures.splitlines():
        if line.startswith("samtrt_slots_in_use") and not line.endswith(" 0.0"):
            time.sleep(2)
            if line in a.client.get("/metrics").text:
                a.faults.append(f"a slot is held for nobody: {line}")


def leave(a: Attacker, path: str, body: bytes) -> None:
    """Send a request and close the connection before it is answered."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    for one in a.sockets(1):
        one.sendall(head.encode() + body)
        time.sleep(1)
        one.close()
        a.ends["left"] += 1


def slow(a: Attacker) -> None:
    """Silent connections, dribbled heads and bodies, answers that nobody reads."""
    image_id = a.upload(payloads.jpeg(256, 256), "2") or ""
    silent = a.sockets(600)
    heads, bodies, readers = a.sockets(40), a.sockets(40), a.sockets(120)
    stop = threading.Event()

    def dribble() -> None:
        while not stop.is_set():
            for one in heads + bodies:
                try:
                    one.send(b"a")
                except OSError:
                    continue
            stop.wait(1)

    for one in heads:
        _try(one, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    for one in bodies:
        _try(
            one,
            b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 100000\r\n\r\n",
        )
    wasm = sorted(Path(__file__).parents[1].glob("src/samtrt_page/static/ort/*/*.wasm.gz"))[0]
    paths = (
        f"/static/ort/{wasm.parent.name}/{wasm.stem}",
        f"/v1/images/{image_id}/embedding",
        "/v1/model/decoder.onnx",
    )
    for i, one in enumerate(readers):
        _try(one, f"GET {paths[i % 3]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    thread = threading.Thread(target=dribble)
    thread.start()
    time.sleep(5)
    a.still_serves()
    a.closed(silent + heads, 25)
    time.sleep(SECONDS)
    a.closed(bodies, 25)
    stop.set()
    thread.join()
    time.sleep(10)
    a.closed(readers, 25)


def _try(one: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # closed for want of room: that is counted later
        one.sendall(data)


def races(a: Attacker) -> None:
    """Twelve clients ask for four images, of which memory holds few; some are deleted twice."""
    pictures = [payloads.jpeg(200 + 40 * i, 160) for i in range(40)]
    ids = [a.upload(data, "2") for data in pictures]
    few = [str(image_id) for image_id in ids[:4]]

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(40):
            response = a.ask(choose.choice(few), {"prompts": [{"points": [[9, 9]]}]}, "24")
            if response is None or response.status_code not in (200, 429):
                a.faults.append("an image that was there was not found")
            if choose.random() < 0.3:  # so that the few are evicted again
                a.send("GET", f"/v1/images/{choose.choice(ids)}/embedding")

    a.at_once(12, work)
    for image_id in ids:
        answers = a.at_once(3, lambda _, i=image_id: a.send("DELETE", f"/v1/images/{i}"))
        statuses = sorted(answer.status_code for answer in answers)
        if statuses != [204, 404, 404]:
            a.faults.append(f"three deletions of one image: {statuses}")


WORKS = (corruption, cost, allocation, slots, slow, races, videos)
ATTACKS = {work.__name__: work for work in WORKS}


def stop(target: Target) -> tuple[float, int | None]:
    """Stop the server while it finds masks, and while others do not read or send."""
    a = Attacker(target)
    image_id = a.upload(payloads.jpeg(2000, 2000)) or ""
    held = a.sockets(60)
    for i, one in enumerate(held):
        path = f"/v1/images/{image_id}/embedding" if i % 2 else "/v1/model/decoder.onnx"
        _try(one, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    busy = a.sockets(1)[0]
    body = b'{"points_per_side": 64}'
    head = (
        f"POST /v1/images/{image_id}/auto HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    busy.sendall(head.encode() + body)
    time.sleep(1)
    return target.stop(120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("directory", type=Path, help="model directory")
    parser.add_argument("--only", choices=sorted(ATTACKS), action="append", help="repeatable")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    faults: list[str] = []
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as spill:
        target = Target(arguments.directory, *OPTIONS, "--spill-dir", spill)
        for name in arguments.only or ATTACKS:
            attacker = Attacker(target)
            target.what = name
            start = time.monotonic()
            ATTACKS[name](attacker)
            attacker.still_serves()
            rows[name] = {
                "seconds": round(time.monotonic() - start, 1),
                "ends": dict(sorted(attacker.ends.items())),
                "peak_mb": round(target.peak),
                "slowest_healthz_s": round(target.slowest, 3),
            }
            print(name, json.dumps(rows[name]), flush=True)
            faults += [f"{name}: {fault}" for fault in attacker.faults]
            if not target.alive:
                faults.append(f"{name}: the server died with {target.process.returncode}")
                break
        seconds, code = stop(target) if target.alive else (0.0, target.process.returncode)
        left = [path.name for path in Path(spill).iterdir()]
    if target.slowest > HEALTH or target.unhealthy:
        faults.append(f"/healthz took {target.slowest:.2f} s and failed {target.unhealthy} times")
    if target.peak > MEMORY:
        faults.append(f"{target.peak:.0f} MiB in {target.worst}")
    if seconds > STOP + LAST + 1 or code != 0:
        faults.append(f"SIGTERM took {seconds:.1f} s and ended with {code}")
    if left:
        faults.append(f"left in the spill folder: {left}")
    if "Traceback" in target.log_file.read_text(errors="replace"):
        faults.append(f"a traceback in {target.log_file}")
    result = {
        "attacks": rows,
        "memory_mb": {
            "start": round(target.start),
            "peak": round(target.peak),
            "of_each_process": target.parts,
            "in": target.worst,
        },
        "healthz": {"asked": target.asked, "slowest_s": round(target.slowest, 3)},
        "log_kb": round(target.log_file.stat().st_size / 1024),
        "sigterm": {"seconds": round(seconds, 1), "code": code},
        "faults": faults[:40],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
