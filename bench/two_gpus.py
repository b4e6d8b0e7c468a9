"""A folder on two GPUs of one host beside one: `samtrt embed` and `samtrt auto`, images a second.

    python bench/two_gpus.py DIR --json two-gpus.json
    python bench/two_gpus.py DIR --backend onnxruntime --first cpu --second cpu --images 2

JPEGs of 1800 x 1200, turned differently. Each command runs as a user runs it, a process of
its own for each device, on few pictures and on four times as many: the rate is that of the pictures
between, so that starting does not count; the wall time of the longer run is told as well, and
there all starting counts. Also checks that two devices write what one writes. Needs the engines of
`samtrt build`; the second command is a rehearsal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors import safe_open

from image_folder import make_images

WIDTH = 1800
WORK = {
    "embed": ["--precision", "fp16"],
    "auto": ["--pred-iou-thresh", "0.6", "--formats", "none"],
}
"""Commands, and what they take besides; `auto` writes COCO JSON alone."""


def run(
    command: str, folder: Path, device: str, output: Path, options: argparse.Namespace
) -> float:
    """Run one command over a folder; return its seconds.

    Raises:
        SystemExit: where it fails.
    """
    shutil.rmtree(output, ignore_errors=True)
    words = [sys.executable, "-m", "samtrt", command, str(options.directory), str(folder)]
    words += ["-o", str(output), "--backend", options.backend, "--device", device, *WORK[command]]
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr.strip()}")
    return time.perf_counter() - begun


def alike(one: Path, other: Path) -> bool:
    """Tell whether two folders have the same results, but for records of the runs themselves."""
    names = [sorted(path.name for path in folder.glob("0*")) for folder in (one, other)]
    return names[0] == names[1] and all(content(one / n) == content(other / n) for n in names[0])


def content(path: Path) -> Any:
    """Return what a file holds; the order of a header's facts may differ."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with safe_open(path, "np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def measured(command: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    both = f"{options.first},{options.second}"
    found: dict[str, Any] = {}
    for device in (options.first, both):
        times = [
            run(command, work / size, device, work / f"out-{size}-{device}", options)
            for size in ("few", "many")
        ]
        more = 3 * options.images
        found[device] = {
            "seconds": [round(one, 2) for one in times],
            "images_per_second": round(more / (times[1] - times[0]), 2),
        }
    first = found[options.first]
    found["times_the_rate"] = round(
        found[both]["images_per_second"] / first["images_per_second"], 3
    )
    found["times_the_wall"] = round(first["seconds"][1] / found[both]["seconds"][1], 3)
    found["alike"] = alike(*(work / f"out-many-{device}" for device in (options.first, both)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--first", default="cuda:0")
    parser.add_argument("--second", default="cuda:1")
    parser.add_argument("--images", type=int, default=100, help="of the shorter run")
    parser.add_argument("--commands", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument("--work", type=Path, help="for pictures and results, on a fast disk")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"images": options.images, "cpu_count": os.cpu_count()}
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        make_images(work / "many", 4 * options.images, WIDTH)
        (work / "few").mkdir()
        for path in sorted((work / "many").iterdir())[: options.images]:
            os.link(path, work / "few" / path.name)
        for command in options.commands:
            result[command] = measured(command, work, options)
            print(command, json.dumps(result[command]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(result[command]["alike"] for command in options.commands) else 1


if __name__ == "__main__":
    sys.exit(main())
