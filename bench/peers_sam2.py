"""SAM 2.1 tiny on the CPU: samtrt, sam2, transformers and samexporter's graphs, in one run.

    pip install --no-deps sam2==1.1.0 samexporter==0.5.0
    python bench/peers_sam2.py [--rounds 5] [--threads 2] [--work FOLDER]

One set of seeded weights (`seeded.py`), one picture (the bundled photograph at 1800 x 1200), one
point, the same number of threads; each subject in a process of its own. In every round all subjects
in turn, and never two at once, encode the picture and answer the click five times, the first of the
round changing; a first turn of each is not counted. `encode`: from the picture to its maps;
`click`: from the point to three masks at the picture's size. Medians, in seconds of the clock and
of the processor (of all threads): on a busy machine only the latter can be compared, and with one
thread, which waits for no other. IoU: least of the three masks' with sam2's; where a subject is
below 1, `pixels apart` is the share of all pixels that differ. Writes
docs/results/peers-sam2-DATE.json, with the machine's load.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from peer_sam2_subjects import CHECKPOINT, MODEL, SUBJECTS
from peers import POINT, RESULTS, machine, photograph

CLICKS = 5
PACKAGES = ("sam2", "transformers", "samexporter", "torch", "onnxruntime", "openvino")
Seconds = dict[str, list[float]]
Row = dict[str, Any]


def prepare(name: str, work: str) -> None:
    SUBJECTS[name].prepare(Path(work))


def serve(name: str, work: str, threads: int, pipe: Connection) -> None:
    """Open a subject, and do a turn for each message; the answer is its seconds and masks."""
    image, subject = photograph(), SUBJECTS[name](Path(work), threads)
    pipe.send("ready")
    while pipe.recv() == "turn":
        seconds: Seconds = defaultdict(list)
        timed(seconds, "encode", lambda: subject.set_image(image))
        for _ in range(CLICKS):
            masks = timed(seconds, "click", lambda: subject.click(POINT))
        pipe.send((dict(seconds), masks))


def timed(seconds: Seconds, task: str, call: Callable[[], Any]) -> Any:
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    seconds[f"{task}_s"].append(time.perf_counter() - wall)
    seconds[f"{task}_processor_s"].append(time.process_time() - processor)
    return result


def compare(masks: np.ndarray, reference: np.ndarray) -> Row:
    from samtrt.masks.logits import mask_iou

    ious = [mask_iou(ours, theirs) for ours, theirs in zip(masks, reference, strict=True)]
    return {
        "iou": round(float(min(ious)), 5),
        "pixels_apart": float((masks != reference).mean()),
        "mask_share": [round(float(mask.mean()), 4) for mask in masks],
    }


def measure(names: list[str], work: str, threads: int, rounds: int) -> dict[str, Row]:
    """Let all subjects take their turns; return seconds and agreement by subject."""
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        process = context.Process(target=serve, args=(name, work, threads, theirs), daemon=True)
        process.start()
        processes.append(process)
        theirs.close()  # so that a subject that ends is an EOFError here
        pipes[name].recv()
        print(f"{name} opened", flush=True)

    def turn(name: str) -> tuple[Seconds, np.ndarray]:
        pipes[name].send("turn")
        answer: tuple[Seconds, np.ndarray] = pipes[name].recv()
        return answer

    masks = {name: turn(name)[1] for name in names}
    seconds: dict[str, Seconds] = {name: defaultdict(list) for name in names}
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            for task, values in turn(name)[0].items():
                seconds[name][task] += values
        print(f"round {index + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send("end")
        process.join()
    return {
        name: {
            **{task: round(statistics.median(all_), 4) for task, all_ in seconds[name].items()},
            **{f"{task}_least": round(min(all_), 4) for task, all_ in seconds[name].items()},
            **compare(masks[name], masks[names[0]]),
        }
        for name in names
    }


def table(rows: dict[str, Row]) -> str:
    """Return Markdown, with how many times faster than the first subject each is."""
    first = next(iter(rows.values()))

    def cells(row: Row, task: str) -> str:
        return f"{row[task]:.3f} ({first[task] / row[task]:.1f}x)"

    tasks = ("encode_s", "encode_processor_s", "click_s", "click_processor_s")
    lines = [
        "| | encode, s | of the processor | click, s | of the processor | IoU |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        shown = " | ".join(cells(row, task) for task in tasks)
        lines.append(f"| {name} | {shown} | {row['iou']:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="keep exported models here, and use them again")
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        if not (work / CHECKPOINT).exists():
            from seeded import seeded_checkpoint

            seeded_checkpoint(work / CHECKPOINT, MODEL)
        for name in given.only:
            print(f"preparing {name}", flush=True)
            prepare(name, str(work))
        before = os.getloadavg()
        rows = measure(given.only, str(work), given.threads, given.rounds)
    today = datetime.date.today().isoformat()
    about = {
        "date": today,
        "command": f"python bench/peers_sam2.py --rounds {given.rounds} --threads {given.threads}",
        "machine": machine(given.threads) | {"versions": {one: version(one) for one in PACKAGES}},
        "rounds": given.rounds,
        "load": {"before": before, "after": os.getloadavg()},
        "subjects": rows,
    }
    path = RESULTS / f"peers-sam2-{today}.json"
    path.write_text(json.dumps(about, indent=2) + "\n")
    print(table(rows), path, sep="\n\n")


if __name__ == "__main__":
    main()
