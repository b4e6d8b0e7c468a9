"""samtrt beside segment-anything, transformers and samexporter on the CPU, in one run.

    pip install --no-deps samexporter==0.5.0      # its pins would replace the environment's PyTorch
    python bench/peers.py [--rounds 3] [--only NAME ...] [--work FOLDER]

One process, one image (the bundled photograph at 1800 x 1200), one set of seeded ViT-B weights, the
same number of threads. In every round all subjects take their turn at each task, the first of the
round changing; a first turn of each is not counted, then medians are taken. Peak memory and
start-up are measured in a process of its own for each subject: interpreter, imports, loading, one
image, one click. Writes docs/results/peers-DATE.json, docs/peers.md and docs/images/peers.png.

`prompt`: a click to three masks at 1800 x 1200. `64 boxes`: one call where the subject can, to one
mask each; in the first round only. `end to end`: encode and prompt. IoU: of its masks with
segment-anything's, mean.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from peer_subjects import SUBJECTS, Subject
from peers_report import write_report

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
POINT = (700.0, 500.0)
BOXES = 64
PACKAGES = [
    "samtrt",
    "torch",
    "onnxruntime",
    "openvino",
    "transformers",
    "segment-anything",
    "samexporter",
    "numpy",
]
Row = dict[str, Any]


def photograph() -> np.ndarray:
    from PIL import Image

    from samtrt import assets
    from samtrt.images import read_image

    image = Image.fromarray(read_image(assets.DEMO_PHOTOGRAPH))
    return np.asarray(image.resize((1800, 1200), Image.Resampling.BICUBIC))


def boxes() -> np.ndarray:
    rng = np.random.default_rng(0)
    near = rng.uniform(0, 0.6, (BOXES, 2))
    far = near + rng.uniform(0.1, 0.4, (BOXES, 2))
    return (np.concatenate([near, far], axis=1) * (1800, 1200, 1800, 1200)).astype(np.float32)


def prepare(work: Path, names: list[str]) -> list[str]:
    """Write the weights and what each subject is opened from; return those that can run here."""
    import torch

    from samtrt.errors import SamtrtError
    from samtrt.models import build_sam, seed_weights
    from samtrt.registry import get_spec

    if not (work / "vit.pth").exists():
        sam = build_sam(get_spec("vit_b"))
        seed_weights(sam)
        torch.save(sam.state_dict(), work / "vit.pth")
    ready = []
    for name in names:
        print(f"preparing {name}", flush=True)
        SUBJECTS[name].prepare(work)
        try:
            SUBJECTS[name](work, 1)
        except SamtrtError as error:
            print(f"{name} left out: {error}")
        else:
            ready.append(name)
    return ready


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def turn(subject: Subject, image: np.ndarray, many: np.ndarray | None) -> tuple[Row, Row]:
    """Let one subject do every task once, with or without many boxes; return seconds and masks."""
    encode, _ = timed(subject.set_image, image)
    first, clicked = timed(subject.click, POINT)
    clicks = [timed(subject.click, POINT)[0] for _ in range(5)]
    times = {"encode": encode, "end to end": encode + first, "prompt": statistics.median(clicks)}
    masks = {"click": clicked}
    if many is not None:
        times["64 boxes"], masks["boxes"] = timed(subject.boxes, many)
        if subject.own:
            calls = [timed(subject.boxes, box[None])[0] for box in many]
            times["64 calls"] = sum(calls)
    return times, masks


def compare(masks: Row, reference: Row) -> Row:
    from samtrt.masks.logits import mask_iou

    return {
        kind: round(float(np.mean([mask_iou(a, b) for a, b in zip(got, theirs, strict=True)])), 5)
        for (kind, got), theirs in zip(masks.items(), reference.values(), strict=True)
    }


def measure(names: list[str], work: Path, threads: int, rounds: int) -> dict[str, Row]:
    image, many = photograph(), boxes()
    opened = {name: SUBJECTS[name](work, threads) for name in names}
    rows: dict[str, Row] = {name: {"seconds": {}} for name in names}
    for name, subject in opened.items():
        turn(subject, image, None)
        print(f"{name:28} warm", flush=True)
    reference: Row = {}
    for index in range(rounds):
        order = names[index % len(names) :] + names[: index % len(names)]
        for name in order:
            times, masks = turn(opened[name], image, None if index else many)
            for task, seconds in times.items():
                rows[name]["seconds"].setdefault(task, []).append(round(seconds, 4))
            if index == 0:
                reference = reference or masks
                rows[name]["iou"] = compare(masks, reference)
            text = ", ".join(f"{task} {seconds:.2f}" for task, seconds in times.items())
            print(f"round {index} {name:28} {text}, load {os.getloadavg()[0]:.1f}", flush=True)
    for row in rows.values():
        row["median"] = {k: round(statistics.median(v), 4) for k, v in row["seconds"].items()}
    return rows


def alone(name: str, work: Path, threads: int) -> Row:
    """Open one subject and use it once: run in a process of its own."""
    start, image = time.perf_counter(), photograph()
    reading = time.perf_counter() - start
    subject = SUBJECTS[name](work, threads)
    ready = time.perf_counter() - start - reading
    subject.set_image(image)
    subject.click(POINT)
    # Not ru_maxrss, which begins with what the parent had.
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) // 1024
    loaded = [module for module in ("torch", "onnxruntime", "openvino") if module in sys.modules]
    return {"start_s": round(ready, 3), "peak_mib": peak, "loads": loaded}


def in_own_process(name: str, work: Path, threads: int) -> Row:
    command = [sys.executable, __file__, "--alone", name, "--work", work, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def start_up(repeats: int = 7) -> dict[str, float]:
    """Return median seconds of whole processes: the interpreter alone, and samtrt in it."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import samtrt": [sys.executable, "-c", "import samtrt"],
        "samtrt --help": [sys.executable, "-m", "samtrt", "--help"],
    }
    walls = {
        name: [timed(lambda c=c: subprocess.run(c, capture_output=True))[0] for _ in range(repeats)]
        for name, c in commands.items()
    }
    return {name: round(statistics.median(times), 3) for name, times in walls.items()}


def machine(threads: int) -> Row:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = dict(line.split(":", 1) for line in lines if ":" in line)
    cpu = {key.strip(): value.strip() for key, value in cpu.items()}
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile")
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": cpu.get("model name", "unknown"),
        "has": [flag for flag in wanted if flag in cpu.get("flags", "").split()],
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="keep exported models here, and use them again")
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--alone", choices=list(SUBJECTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(alone(arguments.alone, arguments.work, arguments.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        names = prepare(work, arguments.only)
        load_before = os.getloadavg()
        separate = {name: in_own_process(name, work, arguments.threads) for name in names}
        starts = start_up()
        rows = measure(names, work, arguments.threads, arguments.rounds)
    for name, row in rows.items():
        row.update(separate[name], own=SUBJECTS[name].own, batches=SUBJECTS[name].batches)
    result = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", "bench/peers.py", *sys.argv[1:]]),
        "machine": machine(arguments.threads),
        "load": {"before": load_before, "after": os.getloadavg()},
        "start_up_s": starts,
        "rows": rows,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"peers-{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")
    write_report(result, path)


if __name__ == "__main__":
    main()
