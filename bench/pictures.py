"""Make every picture of README and docs that shows the bundled weights or the page.

    make pictures           # or: python bench/pictures.py [MODEL_DIRECTORY]

Exports the small checkpoint, unless a directory of it is given, and writes docs/images: demo.png,
the page (bench/screenshots.py, in headless Chromium) and, where the weights are others than in the
last run, the hand-labelled photographs (training/eval_photos.py, with docs/results/photos.*) and
what `samtrt auto` finds in nine of them. docs/images/made-from.json then holds the hashes of the
weights and of the page, and tests/test_docs.py fails where either is newer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from samtrt import assets
from samtrt.cli.demo import BOWL, COFFEE
from samtrt.files import sha256_of
from samtrt_page import STATIC

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
MADE = IMAGES / "made-from.json"
GAP = 12  # white pixels between the two halves of demo.png
TILE, COLUMNS = 400, 3  # of automatic.jpg: a photograph's longest side in pixels


def made_from() -> dict[str, str]:
    """Return what the pictures show, by its hash."""
    return {
        "weights": sha256_of(assets.SMALL_CHECKPOINT),
        "page": (STATIC / "sources.sha256").read_text().strip(),
    }


def run(*words: object) -> None:
    """Run a script or a command of this checkout."""
    subprocess.run([sys.executable, *map(str, words)], check=True, cwd=ROOT, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def demo(model: Path, work: Path) -> None:
    """Write the two pictures of `samtrt demo` side by side."""
    halves = []
    points = [word for x, y in BOWL for word in ("--point", f"{x},{y}")]
    for name, prompt in (("points", points), ("box", ["--box", ",".join(map(str, COFFEE))])):
        path = work / f"{name}.png"
        given = (*prompt, "--specks", 16, "-o", path)
        run("-m", "samtrt", "predict", model, assets.DEMO_PHOTOGRAPH, *given)
        halves.append(np.asarray(Image.open(path)))
    white = np.full((halves[0].shape[0], GAP, 3), 255, np.uint8)
    Image.fromarray(np.hstack([halves[0], white, halves[1]])).save(IMAGES / "demo.png")


def automatic(model: Path, work: Path) -> None:
    """Write the masks that `samtrt auto` finds by itself in the first set of photographs."""
    found = work / "auto"
    words = ("--backend", "openvino", "-f", "overlay")
    run("-m", "samtrt", "auto", model, ROOT / "training" / "photos", "-o", found, *words)
    paths = sorted((found / "overlay").glob("*.png"))
    sheet = Image.new("RGB", (TILE * COLUMNS, TILE * math.ceil(len(paths) / COLUMNS)), "white")
    for index, path in enumerate(paths):
        tile = Image.open(path).convert("RGB")
        tile.thumbnail((TILE - 4, TILE - 4))
        row, column = divmod(index, COLUMNS)
        sheet.paste(tile, (column * TILE + 2, row * TILE + (TILE - tile.height) // 2))
    sheet.save(IMAGES / "photos" / "automatic.jpg", quality=80, optimize=True)


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """Serve a model while the block runs; yield the address."""
    words = [sys.executable, "-m", "samtrt", "serve", str(model), "--port", "0"]
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert server.stderr
        for line in server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                return
        raise SystemExit("the server did not start")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("model", nargs="?", type=Path, help="made of the bundled checkpoint")
    model: Path | None = parser.parse_args().model
    before = json.loads(MADE.read_text(encoding="utf-8")) if MADE.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            model = Path(folder, "model")
            run("-m", "samtrt", "export", assets.SMALL_MODEL, "-o", model)
        weights = made_from()["weights"]
        told = json.loads((model / "samtrt.json").read_text())["checkpoint"]["sha256"]
        if told != weights:
            raise SystemExit(f"{model} is not of the bundled weights: export it again")
        demo(model.resolve(), Path(folder))
        if told != before.get("weights"):  # else they show what they would
            run("training/eval_photos.py", model.resolve())
            automatic(model.resolve(), Path(folder))
        with serving(model) as url:
            run("bench/screenshots.py", url)
    MADE.write_text(json.dumps(made_from(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
