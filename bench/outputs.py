"""Memory and time of a hundred boxes on a large picture, for each kind of result.

    python bench/outputs.py MODEL_DIRECTORY

Each run is a process of its own, whose largest resident memory is what the system counted. The
first reads the picture and does no more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, BOXES = 12_000, 9_000, 120

READ = "from samtrt import read_image; import sys; read_image(sys.argv[1])"
MAIN = "import sys; from samtrt.cli import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture, boxes = Path(folder, "large.jpg"), Path(folder, "boxes.csv")
        small = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(picture)
        rows = [
            f"{x},{y},{x + 2400},{y + 1800}"
            for x, y in np.random.default_rng(1).integers(
                0, (WIDTH - 2400, HEIGHT - 1800), (BOXES, 2)
            )
        ]
        boxes.write_text("x1,y1,x2,y2\n" + "\n".join(rows) + "\n")
        report("reading the picture", READ, picture)
        command = (MAIN, "predict", arguments.model, picture, "--boxes", boxes)
        report("JSON", *command, "--json", Path(folder, "a.json"))
        report("overlay", *command, "-o", Path(folder, "a.png"))


def report(what: str, code: str, *arguments: object) -> None:
    """Run Python code in a process of its own and print its memory and time."""
    begun = time.monotonic()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code, *map(str, arguments)],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    megabytes = usage.ru_maxrss / 1000
    seconds, busy = time.monotonic() - begun, usage.ru_utime + usage.ru_stime
    code_of = os.waitstatus_to_exitcode(status)
    times = f"{seconds:.0f} s, {busy:.0f} s of processor time"
    print(f"{what}: {megabytes:.0f} MB, {times}, exit code {code_of}", flush=True)


if __name__ == "__main__":
    main()
