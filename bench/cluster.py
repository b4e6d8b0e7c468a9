"""What Ray adds to an image: `samtrt auto` alone, and on a cluster of one and of two workers.

    python bench/cluster.py [DIR] [--images 24]

A cluster of a head and nodes of one core each is started on this machine, and does a folder of
images as `samtrt auto --ray` does. CPU time is what is compared, because cores that others use too
do not change it much: in the workers, that of an image's own work and that of all around it, and
that of every other process of Ray and of the command, less what they take while nothing runs. The
latter goes by the second and not by the image, and so is told of workers that sleep, too. Wall
times and load averages are noted beside it. Writes a dated JSON to docs/results/.

Needs the extras ray, export and ort, and psutil.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np

from image_folder import make_images
from ray_processes import observe
from samtrt import assets
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import BackendName, OutputFormat
from samtrt.cli.auto import AutoJob
from samtrt.cli.options import Engines
from samtrt.cli.reading import ImageReader
from samtrt.cli.writing import DEFAULT_FORMATS
from samtrt.datasets.given import Given
from samtrt.datasets.output import DatasetOutput
from samtrt.datasets.work import State, Task, run_here
from samtrt.export.onnx import export_model
from samtrt.formats.annotation import Annotation
from samtrt.images import read_image
from samtrt.masks import rle
from samtrt.sources import Source, find_sources
from timed_job import SLEEP_SECONDS, SleepingJob, TimedJob

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"


def results(
    folder: Path, image: Path, masks: int, formats: Sequence[OutputFormat]
) -> dict[str, float]:
    """Return CPU time and bytes of one image's results, and of its part in the file about all."""
    random = np.random.default_rng(0)
    picture = read_image(image)
    height, width = picture.shape[:2]
    found = []
    for number in range(masks):
        canvas = np.zeros((height, width), np.uint8)
        centre = int(random.integers(width)), int(random.integers(height))
        axes = [int(value) for value in random.integers(10, height // 5, 2)]
        cv2.ellipse(canvas, centre, axes, float(random.integers(180)), 0, 360, 1, -1)
        found.append(Annotation.of(rle.encode(canvas > 0), {}, prompt=number, predicted_iou=0.9))
    files = DatasetOutput(folder, formats, {})
    sources = [Source(image, PurePath(f"{number:03}")) for number in range(8)]
    given = Given(picture, "0" * 64)
    start = time.process_time()
    for source in sources:
        files.write(source, given, found)
    written = time.process_time() - start
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    start = time.process_time()
    files.merge(sources)
    merged = time.process_time() - start
    return {
        "cpu_s": written / len(sources),
        "bytes": size / len(sources),
        "merge_cpu_s": merged / len(sources),
        "marker_bytes": files.marker(sources[0]).stat().st_size,
    }


def alone(job: AutoJob, tasks: list[Task]) -> dict[str, float]:
    """Run in a process of its own; return what an image takes."""
    if (child := os.fork()) == 0:
        work = job.open()
        begun, cpu = time.perf_counter(), time.process_time()
        failed = [o for _, o in run_here(work, tasks, lambda *_: None) if o.state is State.FAILED]
        times = time.perf_counter() - begun, time.process_time() - cpu
        (job.output.parent / "alone.json").write_text(json.dumps([*times, len(failed)]))
        os._exit(0)
    os.waitpid(child, 0)
    wall, cpu, failed = json.loads((job.output.parent / "alone.json").read_text())
    assert failed == 0
    return {"wall_s": wall / len(tasks), "cpu_s": cpu / len(tasks)}


def on_cluster(job: AutoJob, tasks: list[Task], workers: int, notes: Path) -> dict[str, float]:
    """Return what an image takes on a cluster, and Ray's share of it."""
    notes.mkdir()
    seen = observe(TimedJob(job, notes), tasks, workers)
    per_worker = {int(note.stem): json.loads(note.read_text()) for note in notes.iterdir()}
    others = sum(seen.kinds(leave_out=per_worker).values()) - seen.idle * seen.wall
    own = sum(one["inside"] for one in per_worker.values()) / len(tasks)
    around = sum(one["around"] for one in per_worker.values()) / len(tasks)
    return {
        "wall_s": seen.wall / seen.images,
        "own_work_cpu_s": own,
        "around_it_in_workers_cpu_s": around,
        "other_processes_cpu_s": max(0.0, others) / seen.images,
        "idle_cluster_cpu_share": seen.idle,
        "overhead_percent": 100 * (around + max(0.0, others) / seen.images) / own,
    }


def a_second(place: Path, workers: int, seconds: float) -> dict[str, Any]:
    """Return the CPU time that a run takes a second, whatever its images are: workers sleep."""
    count = max(8 * workers, round(workers * seconds / SLEEP_SECONDS))
    tasks = [Task(Source(place / str(number), PurePath(str(number)))) for number in range(count)]
    seen = observe(SleepingJob(place), tasks, workers)
    kinds = {kind: value / seen.wall for kind, value in seen.kinds().most_common()}
    return {
        "workers": workers,
        "images_a_second": round(seen.images / seen.wall, 2),
        "above_idle_cpu_share": round(sum(kinds.values()) - seen.idle, 4),
        "idle_cluster_cpu_share": round(seen.idle, 4),
        "cpu_share_of": {kind: round(share, 4) for kind, share in kinds.items() if share > 1e-3},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--width", type=int, default=1800)
    parser.add_argument("--points-per-side", type=int, default=16)
    parser.add_argument(
        "--masks", type=int, default=60, help="of the image whose results are timed"
    )
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument(
        "--sleepers", type=int, nargs="*", default=[2], help="workers that sleep, to time Ray alone"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="that they sleep")
    parser.add_argument("--json", type=Path, help="where the result goes")
    arguments = parser.parse_args()
    date = datetime.date.today().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = arguments.directory
        if model is None:
            model = place / "model"
            export_model(load_checkpoint(assets.SMALL_CHECKPOINT), model)
        make_images(place / "images", arguments.images, arguments.width)
        tasks = [Task(source) for source in find_sources([place / "images"]).found]
        engines = Engines(model.absolute(), BackendName.ONNXRUNTIME, None, 1, None)
        options = {"points_per_side": arguments.points_per_side}

        def job(name: str) -> AutoJob:
            files = DatasetOutput(place / name, [], {})
            return AutoJob(engines, ImageReader(None, "white"), files, options)

        load = [os.getloadavg()[0]]
        rows: dict[str, dict[str, float]] = {"alone": alone(job("alone"), tasks)}
        for workers in arguments.workers:
            name = f"{workers} worker{'s' * (workers > 1)}"
            rows[name] = on_cluster(job(name), tasks, workers, place / f"notes-{workers}")
            load.append(os.getloadavg()[0])
        image = next((place / "images").iterdir())
        kinds = [OutputFormat(name) for name in DEFAULT_FORMATS.split(",")]
        written = {
            "COCO": results(place / "coco", image, arguments.masks, []),
            "COCO and default formats": results(place / "all", image, arguments.masks, kinds),
        }
        result: dict[str, Any] = {
            "date": date,
            "machine": {"cpu_count": os.cpu_count(), "load": load},
            "images": arguments.images,
            "width": arguments.width,
            "image_bytes": sum(task.source.path.stat().st_size for task in tasks) / len(tasks),
            "options": options,
            "model": json.loads((model / "samtrt.json").read_text())["model"],
            "a_run_a_second": [
                a_second(model, workers, arguments.seconds) for workers in arguments.sleepers
            ],
            "results_of_an_image": {"masks": arguments.masks, **written},
            "rows": {
                name: {part: round(value, 5) for part, value in row.items()}
                for name, row in rows.items()
            },
        }
    out = arguments.json or RESULTS / f"cluster-{date}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
