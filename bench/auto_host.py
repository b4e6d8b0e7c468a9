"""What automatic masks cost the host: the generator on decoder outputs that were recorded before.

    python bench/auto_host.py record DIR [--seeded vit_b | --enlarge] [--size 1800x1200]
    python bench/auto_host.py time DIR [--pred-iou-thresh 0.4 --stability-score-thresh 0.4]

`record` runs ONNX Runtime once and keeps what the decoder answers to each point: 1 GB for 32 x 32
points at 1024 input. `--enlarge` brings the bundled checkpoint's logits, 128 x 128, to ViT-B's 256
x 256: masks of real shapes, at ViT-B's size. `time` replays them, as if the models took no time, so
that what is left is the host's work. Its threads are those of the generator's pool, beside the one
that decodes. Phases are CPU time, summed over threads, in which other work on the machine does not
count; `interpreter_ms` is what the pool's calls would take on masks of 8 x 8 cells and as many
pixels, where all that is left is Python, which threads cannot share. The hash is of all records:
equal hashes, equal masks. Writes a dated JSON to docs/results/.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clock import Clock
from samtrt import assets
from samtrt.automatic import candidates
from samtrt.automatic import generator as amg
from samtrt.backends.base import Arrays
from samtrt.backends.fake import FakeBackend
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import Stage
from samtrt.images import read_image
from samtrt.manifest import Manifest
from samtrt.masks import rle
from samtrt.masks.axes import Axis, resize
from samtrt.masks.upscaling import Upscaler
from samtrt.predictor import Predictor
from samtrt.preparation.frame import Frame
from samtrt.types import UInt8Array

RESULTS = Path(__file__).parent.parent / "docs" / "results"
PROMPTS_PER_RUN = 64
PHASES = (
    ("decoding thread", Predictor, "encode"),
    ("decoding thread", amg, "build_prompts"),
    ("decoding thread", Predictor, "decode_wanted"),
    ("decoding thread, in the end", amg, "select"),
    ("decoding thread, in the end", amg.AutomaticMaskGenerator, "_record"),
    ("pool, while decoding", candidates.Sieve, "survey"),
    ("  of it", Upscaler, "above"),
    ("  of it", Upscaler, "bounds"),
    ("  of it", candidates.StabilityTest, "surely_fails"),
    ("pool, in the end", candidates.Sieve, "form"),
    ("  of it", Axis, "stretch"),
    ("  of it", candidates.StabilityTest, "counts"),
    ("  of it", rle, "find_runs"),
)


class Recorder:
    """Stands in for a decoder and keeps what it answers."""

    def __init__(self, decoder: Any) -> None:
        self._decoder, self.answers = decoder, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def run(self, feeds: Arrays, on_host: bool = True) -> dict[str, np.ndarray]:
        del on_host
        answer = self._decoder.run(feeds)
        self.answers.append(dict(answer))
        return answer


class Replayer(FakeBackend):
    """Answers with what was recorded, in order, again and again."""

    def __init__(self, manifest: Manifest, masks: np.ndarray, scores: np.ndarray) -> None:
        super().__init__(manifest, Stage.DECODER)
        self._masks, self._scores, self._at = masks, scores, 0

    def _compute(self, feeds: Arrays) -> dict[str, np.ndarray]:
        start, self._at = self._at, self._at + len(feeds["point_coords"])
        part = slice(start, self._at)
        self._at %= len(self._masks)
        return {"low_res_masks": self._masks[part], "iou_predictions": self._scores[part]}


class BlankEncoder(FakeBackend):
    """Gives the same embedding for every image."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest, Stage.ENCODER)
        grid = manifest.embedding_size
        self._blank = np.zeros((1, manifest.embed_channels, grid, grid), dtype=np.float32)

    def _compute(self, feeds: Arrays) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"image_embeddings": self._blank}


def record(arguments: argparse.Namespace) -> None:
    from samtrt.export.onnx import export_model
    from seeded import seeded_checkpoint

    width, height = (int(side) for side in arguments.size.split("x"))
    picture = Image.fromarray(read_image(arguments.image))
    image = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    out = arguments.recording
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if arguments.seeded:
            checkpoint = seeded_checkpoint(Path(folder) / "seeded.safetensors", arguments.seeded)
        export_model(load_checkpoint(checkpoint), Path(folder) / "model")
        predictor = Predictor.load(Path(folder) / "model")
        recorder: Any = Recorder(predictor.decoder)
        predictor.decoder = recorder
        amg.AutomaticMaskGenerator(predictor, pred_iou_thresh=1e9).generate(image)
        manifest = predictor.manifest
    masks, scores = (
        np.concatenate([answer[name] for answer in recorder.answers])
        for name in ("low_res_masks", "iou_predictions")
    )
    if arguments.enlarge:
        manifest, masks = manifest.model_copy(update={"image_size": 1024}), resized(masks, 256)
    (out / "manifest.json").write_text(manifest.model_dump_json())
    for name, array in (("masks", masks), ("scores", scores), ("image", image)):
        np.save(out / f"{name}.npy", array)
    print(f"recorded {len(masks)} points in {out}")


def resized(masks: np.ndarray, side: int) -> np.ndarray:
    """Resize masks [P, 4, M, M] bilinearly."""
    out = np.empty((*masks.shape[:2], side, side), dtype=np.float32)
    for index in np.ndindex(masks.shape[:2]):
        out[index] = resize(masks[index], (side, side))
    return out


class Replay:
    """The generator on recorded answers."""

    def __init__(
        self,
        manifest: Manifest,
        image: UInt8Array,
        masks: np.ndarray,
        scores: np.ndarray,
        options: dict[str, Any],
    ) -> None:
        encoder, decoder = BlankEncoder(manifest), Replayer(manifest, masks, scores)
        predictor = Predictor(encoder, decoder, manifest, PROMPTS_PER_RUN)
        self._generator = amg.AutomaticMaskGenerator(predictor, output_mode="coco_rle", **options)
        self._image = image

    def run(self, threads: int) -> tuple[float, float, list[Any]]:
        """Return wall and CPU milliseconds, and the records."""
        amg._workers = lambda: threads  # type: ignore[assignment]
        start, cpu = time.perf_counter(), time.process_time()
        found = self._generator.generate(self._image)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        return 1000 * wall, 1000 * cpu, found


def interpreter_ms(masks: np.ndarray, phases: dict[str, dict[str, float]]) -> float:
    """Time the pool's calls, as many as there were, on masks and an image of 8 x 8."""
    size, step = (8, 8), masks.shape[-1] // 8
    planes = np.ascontiguousarray(masks[:2, :, ::step, ::step]).reshape(8, 8, 8)
    test = candidates.StabilityTest(0.0, 1.0, 0.0)
    sieve = candidates.Sieve(Upscaler(Frame(size, 32, 8)), test, (0, 0, 8, 8), size)
    scores, points, total = np.zeros(8), np.zeros((8, 2)), 0.0
    prospect = sieve.survey(planes, scores, points)[0]
    for label, work in (
        ("pool, while decoding: Sieve.survey", lambda: sieve.survey(planes, scores, points)),
        ("pool, in the end: Sieve.form", lambda: sieve.form(prospect)),
    ):
        start = time.thread_time()
        for _ in range(200):
            work()
        total += (time.thread_time() - start) / 200 * phases[label]["calls"]
    return round(1000 * total, 1)


def measure(arguments: argparse.Namespace) -> None:
    folder = arguments.recording
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    image, masks, scores = (np.load(folder / f"{n}.npy") for n in ("image", "masks", "scores"))
    names = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh")
    options = {name: getattr(arguments, name) for name in names}
    options["points_per_side"] = round(len(masks) ** 0.5)
    load_before = os.getloadavg()
    replay = Replay(manifest, image, masks, scores, options)
    replay.run(1)
    walls: dict[int, list[float]] = defaultdict(list)
    cpus: dict[int, list[float]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for threads in arguments.threads:
            wall, cpu, found = replay.run(threads)
            walls[threads].append(wall)
            cpus[threads].append(cpu)
            print(f"{threads} threads: {wall:.0f} ms, of the CPU {cpu:.0f}", flush=True)
    clock = Clock(time.thread_time)
    for group, owner, name in PHASES:
        clock.watch(owner, name, f"{group}: {owner.__name__.split('.')[-1]}.{name}")
    replay.run(1)
    phases = {
        label: {"calls": clock.calls[label], "cpu_ms": round(1000 * seconds, 1)}
        for label, seconds in clock.seconds.items()
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu_count": os.cpu_count(),
            "load_before": load_before,
            "load_after": os.getloadavg(),
        },
        "recording": folder.name,
        "image": image.shape[:2],
        "logits": masks.shape,
        "options": options,
        "over_pred_iou_thresh": int((scores[:, 1:] > arguments.pred_iou_thresh).sum()),
        "masks": len(found),
        "sha256": hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest(),
        "median_wall_ms": {n: round(statistics.median(each), 1) for n, each in walls.items()},
        "median_cpu_ms": {n: round(statistics.median(each), 1) for n, each in cpus.items()},
        "phases": phases,
        "interpreter_ms": interpreter_ms(masks, phases),
    }
    out = RESULTS / f"auto-host-{arguments.label or folder.name}-{result['date']}.json"
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    print(f"written to {out}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("record")
    sub.add_argument("recording", type=Path)
    sub.add_argument("--checkpoint", type=Path, default=assets.SMALL_CHECKPOINT)
    sub.add_argument("--seeded", metavar="MODEL", help="seeded noise in the shape of a model")
    sub.add_argument("--enlarge", action="store_true", help="bring logits to 256 x 256")
    sub.add_argument("--image", type=Path, default=assets.DEMO_PHOTOGRAPH)
    sub.add_argument("--size", default="1800x1200", help="width x height the image is brought to")
    sub.set_defaults(run=record)
    sub = commands.add_parser("time")
    sub.add_argument("recording", type=Path)
    sub.add_argument("--pred-iou-thresh", type=float, default=0.88)
    sub.add_argument("--stability-score-thresh", type=float, default=0.95)
    sub.add_argument("--box-nms-thresh", type=float, default=0.7)
    sub.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    sub.add_argument("--rounds", type=int, default=3)
    sub.add_argument("--label", help="a word for the result's file name")
    sub.set_defaults(run=measure)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
