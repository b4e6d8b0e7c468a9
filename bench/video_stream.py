"""A camera followed for thousands of frames: memory and CPU time a frame, as it goes on.

    python bench/video_stream.py DIR -o docs/results/video-stream-DATE.json

Two objects are pointed at on the first frame, one of them again every 500 frames, and a third comes
and goes. DIR is a model directory that was exported with --video. The result is written anew with
each of its rows, so that a run that is stopped leaves what it saw.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from samtrt.backends import BackendOptions
from samtrt.files import write_atomic
from samtrt.video.predictor import VideoPredictor
from samtrt.video.session import StreamingSession

WINDOW = 200
"""Frames that a row of the result is about."""


def picture(number: int, large: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a frame of a camera that goes round over a large picture."""
    height, width = size
    turn = 2 * np.pi * number / 300
    y, x = (round(20 + 20 * part) for part in (np.sin(turn), np.cos(turn)))
    return np.ascontiguousarray(large[y : y + height, x : x + width])


def resident() -> float:
    """Return the process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    size = (120, 160)
    large = np.random.default_rng(0).integers(0, 256, (size[0] + 48, size[1] + 48, 3), np.uint8)
    options = BackendOptions(threads=asked.threads)
    rows: list[dict[str, float]] = []
    with VideoPredictor.load(asked.directory, asked.backend, options) as predictor:
        session = StreamingSession(predictor)
        times: list[float] = []
        for number in range(asked.frames):
            frame = picture(number, large, size)
            begun = time.process_time()
            session.track(frame)
            times.append(time.process_time() - begun)
            if number == 0:
                session.add_new_points_or_box(1, points=[[40, 60]], labels=[1])
                session.add_new_points_or_box(2, box=[60, 30, 110, 80])
            elif number % 500 == 0:
                session.add_new_points_or_box(2, points=[[80, 50]], labels=[1])
            elif number % 100 == 50:
                session.add_new_points_or_box(3, points=[[100, 90]], labels=[1])
            elif number % 100 == 99:
                session.remove_object(3)
            if len(times) == WINDOW:
                rows.append(
                    {
                        "frames": number + 1,
                        "median_cpu_ms": round(1e3 * float(np.median(times)), 2),
                        "p95_cpu_ms": round(1e3 * float(np.quantile(times, 0.95)), 2),
                        "resident_mb": round(resident(), 1),
                    }
                )
                print(rows[-1], flush=True)
                times.clear()
                about = {"model": predictor.engines.manifest.model, "backend": asked.backend}
                save(asked.output, {**about, "frame": [*size], "windows": rows})


def save(path: Path, document: dict[str, object]) -> None:
    """Write the result, with the machine that it is of."""
    with write_atomic(path) as temporary:
        text = json.dumps({**document, "machine": platform.machine()}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
