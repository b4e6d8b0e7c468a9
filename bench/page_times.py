"""How long masks take on the page: the first on its sample, clicks and previews on a large picture.

    python bench/page_times.py DIR [--size 6000x4000] [--source OTHER/src] [--json page.json]

Serves the model directory, opens the sample, then a generated picture of that size in headless
Chromium, clicks on it and moves over it, and says for each the time until its mask is drawn and the
processor time that server and browser took meanwhile; the latter says the same on a busy machine.
The first mask is counted from opening the page. `--source` runs the server and the page of another
checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

PORT = 8377
_TICK = os.sysconf("SC_CLK_TCK")


def picture(width: int, height: int) -> Path:
    """Write a JPEG with edges and slopes."""
    coarse = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    path = Path(tempfile.mkdtemp()) / "large.jpg"
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def cpu_seconds(root: int) -> float:
    """Add up what a process and all those below it have taken."""
    parents, times = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(entry.parent.name)
        parents[pid], times[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    total = 0
    for pid, ticks in times.items():
        at: int | None = pid
        while at and at != root:
            at = parents.get(at)
        total += ticks if at == root else 0
    return total / _TICK


class Meter:
    """Wall and processor time of what the page is made to do."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self.found: dict[str, list[tuple[float, float]]] = {}

    def __call__(self, name: str, act: Any, done: Any) -> None:
        cpu, start = cpu_seconds(os.getpid()), time.perf_counter()
        act()
        done()
        # Two frames: one to draw in, one to know that it was drawn.
        self._page.evaluate(
            "new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))"
        )
        wall = time.perf_counter() - start
        self.found.setdefault(name, []).append((wall, cpu_seconds(os.getpid()) - cpu))


def measure(page: Any, url: str, path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Do what a user does; return the median times of each thing done."""
    answers = 0
    meter = Meter(page)

    def open_sample() -> None:
        page.goto(url)
        page.click("#sample")
        page.wait_for_selector("body[data-state=open]")
        box = page.locator("#canvas").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    meter("first mask", open_sample, lambda: page.wait_for_selector(".candidate"))

    def count(response: Any) -> None:
        nonlocal answers
        answers += response.url.endswith("/masks")

    def answered(before: int) -> None:
        while answers == before:
            page.wait_for_timeout(5)

    page.on("response", count)
    page.wait_for_timeout(1000)
    with page.expect_response(lambda one: one.url.endswith("/v1/images")):
        page.set_input_files("#file", path)
    page.wait_for_timeout(3000)
    box = page.locator("#canvas").bounding_box()
    scale = min((box["width"] - 48) / size[0], (box["height"] - 48) / size[1])
    center = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    places = [
        (center[0] + dx * size[0] * scale / 12, center[1] + dy * size[1] * scale / 12)
        for dx, dy in [(-4, -3), (3, 2), (-2, 3), (4, -4), (0, 1), (-4, 2), (2, -3), (1, 4)]
    ]
    for x, y in places:
        before = answers
        meter("hover", lambda x=x, y=y: page.mouse.move(x, y), lambda n=before: answered(n))
        page.wait_for_timeout(300)
    page.uncheck("#hover")
    for x, y in places:

        def settled() -> None:
            page.wait_for_selector("#candidates[aria-busy=false] .candidate")

        meter("click", lambda x=x, y=y: page.mouse.click(x, y), settled)
        page.click("#clear")
        page.wait_for_timeout(300)
    return {
        name: {
            "wall_ms": round(1000 * statistics.median(wall for wall, _ in times)),
            "cpu_ms": round(1000 * statistics.median(cpu for _, cpu in times)),
        }
        for name, times in meter.found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--size", default="6000x4000")
    parser.add_argument("--source", type=Path, default=Path(__file__).parent.parent / "src")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    command = [sys.executable, "-m", "samtrt", "serve", arguments.directory, "--port", str(PORT)]
    environment = {**os.environ, "PYTHONPATH": str(arguments.source.resolve())}
    with (
        subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server,
        sync_playwright() as playwright,
    ):
        try:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            context = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
            page = context.new_page()
            page.set_default_timeout(120_000)
            url = f"http://127.0.0.1:{PORT}"
            for _ in range(300):
                try:
                    context.request.get(f"{url}/readyz")
                    break
                except Exception:  # not up yet
                    time.sleep(0.2)
            found = measure(page, url, picture(width, height), (width, height))
            browser.close()
        finally:
            server.terminate()
    for name, times in found.items():
        print(f"{name}: {times['wall_ms']} ms, {times['cpu_ms']} ms of processor time")
    if arguments.json:
        arguments.json.write_text(json.dumps({"size": [height, width], **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
