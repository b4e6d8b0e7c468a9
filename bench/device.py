"""What a user waits for on a GPU, and what of it is the GPU's own time.

    python bench/device.py kernels --json kernels.json       # the kernels alone; needs no engine
    python bench/device.py model DIR --json model.json       # engines of `samtrt build`
    python bench/device.py throughput DIR                    # after `build --batch 1:8:8`

One image of 1800 x 1200. Wall times are p50 of `--runs`; *gpu* is the GPU's own clock from the
first to the last thing queued, so that gaps count. `kernels` also compares each kernel with the
host and ends with exit code 1 where one is off; `--small` makes it quick enough for
compute-sanitizer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.cuda.memory import Memory
from samtrt.cuda.runtime import THREAD_STREAM, Cuda
from samtrt.masks import rle
from samtrt.masks.cuda import Limits, MaskFormer
from samtrt.masks.logits import upscale_logits
from samtrt.preparation import cuda as device
from samtrt.preparation import host
from samtrt.preparation.frame import Frame
from samtrt.preparation.spec import OFFICIAL

CLOCK = ["nvidia-smi", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits"]
SIZE = (1200, 1800)
LIMITS = Limits(0.0, 1.0, -1.0)


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def blobs(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Return logits that cross every threshold, in blobs and in specks."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, side // 16, side // 16)).astype(np.float32) * 4
    smooth = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)
    return smooth + rng.normal(size=smooth.shape).astype(np.float32) * 0.3


class Timer:
    """Times calls by the wall and by the GPU's clock, in the calling thread's stream."""

    def __init__(self, cuda: Cuda, runs: int) -> None:
        self._cuda, self._runs = cuda, runs
        self._events = [cuda.create_event() for _ in range(2)]

    def __call__(self, call: Callable[[], Any]) -> dict[str, float]:
        for _ in range(3):
            call()
        wall, gpu = [], []
        for _ in range(self._runs):
            self._cuda.record(self._events[0], THREAD_STREAM)
            start = time.perf_counter()
            call()
            wall.append(time.perf_counter() - start)
            self._cuda.record(self._events[1], THREAD_STREAM)
            self._cuda.synchronize(THREAD_STREAM)
            gpu.append(self._cuda.elapsed_ms(*self._events))
        return {
            "wall_ms": round(statistics.median(wall) * 1e3, 3),
            "least_ms": round(min(wall) * 1e3, 3),
            "gpu_ms": round(statistics.median(gpu), 3),
        }

    def queued(self, call: Callable[[], Any], count: int = 20) -> float:
        """Return the GPU's milliseconds of one of many calls that only queue."""
        call()
        self._cuda.record(self._events[0], THREAD_STREAM)
        for _ in range(count):
            call()
        self._cuda.record(self._events[1], THREAD_STREAM)
        self._cuda.synchronize(THREAD_STREAM)
        return round(self._cuda.elapsed_ms(*self._events) / count, 4)


def kernels(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Compare every kernel with the host, then time it."""
    cuda = Cuda(options.gpu)
    cuda.use()
    memory = Memory(cuda)
    right: dict[str, bool] = {}
    sizes = (
        [(60, 90), (37, 500)] if options.small else [SIZE, (600, 400), (3000, 900), (1024, 1024)]
    )
    side, most = (64, 6) if options.small else (1024, 64)
    for size in sizes:
        frame, image = Frame(size, side, side // 4), picture(size)
        got = device.preprocess(image, frame, OFFICIAL, memory).numpy()
        right[f"prepare {size}"] = np.array_equal(got, host.preprocess(image, frame, OFFICIAL))
        planes, chosen = blobs(9, side // 4), np.array([8, 0, 3, 5])
        former, logits = MaskFormer(frame, memory), memory.upload(planes)
        full = former.logits(logits, chosen).numpy()
        wanted = upscale_logits(planes[chosen], frame)
        right[f"logits {size}"] = bool(np.abs(full - wanted).max() < 1e-4)
        masks = former.masks(logits, chosen, 0.0).numpy()
        right[f"masks {size}"] = np.array_equal(masks, full > 0)
        facts = former.measure(logits, chosen, LIMITS)
        counted = np.stack([(full > limit).sum((1, 2)) for limit in (0.0, 1.0, -1.0)])
        right[f"counts {size}"] = np.array_equal(counted, np.stack(facts[:3]))
        boxes = [rle.find_runs(np.ascontiguousarray(mask.T), size[0]).box for mask in masks]
        right[f"boxes {size}"] = np.array_equal(facts.boxes, boxes)
        encoded = [rle.with_list(one) for one in former.encode(logits, chosen, 0.0)]
        right[f"rle {size}"] = encoded == [rle.encode(mask) for mask in masks]
    result: dict[str, Any] = {"right": right}
    if not options.small:
        result["times"] = time_kernels(memory, Timer(cuda, options.runs), most)
    return result, all(right.values())


def time_kernels(memory: Memory, timer: Timer, prompts: int) -> dict[str, Any]:
    frame, image = Frame(SIZE, 1024, 256), picture(SIZE)
    uploaded = memory.upload(image)
    former = MaskFormer(frame, memory)
    planes = np.tile(blobs(48, 256), (prompts * 4 // 48 + 1, 1, 1))[: prompts * 4]
    logits = memory.upload(planes)
    memory.synchronize()
    three = np.arange(prompts * 4).reshape(-1, 4)[:, 1:].ravel()
    times: dict[str, Any] = {
        "prepare, from the host": timer(lambda: device.preprocess(image, frame, OFFICIAL, memory)),
        "prepare, from the GPU": timer(
            lambda: device.preprocess(uploaded, frame, OFFICIAL, memory)
        ),
        "upload of the image": timer(lambda: (memory.upload(image), memory.synchronize())),
        "measure 192": timer(lambda: former.measure(logits, three, LIMITS)),
        "masks of 3": timer(lambda: former.masks(logits, three[:3], 0.0)),
        "masks of 3, to the host": timer(lambda: former.masks(logits, three[:3], 0.0).numpy()),
        "RLE of 3": timer(lambda: former.encode(logits, three[:3], 0.0)),
        "RLE of 64": timer(lambda: former.encode(logits, three[:64], 0.0)),
    }
    chosen = memory.upload(three.astype(np.int32))
    found = memory.zeros((len(three), 7), np.dtype(np.int32))
    for strip in (64, 128, 256, 400, 600):
        blocks = -(-SIZE[1] // 512) * -(-SIZE[0] // strip)
        times[f"kernel: measure 192, strips of {strip}"] = timer.queued(
            lambda blocks=blocks, strip=strip: former._kernels.launch(
                "measure_masks", (blocks, len(three)), 128, logits, chosen, None, 0.0,
                former._ys, former._xs, *former._sizes, strip, 1.0, -1.0, 0.0, found,
            )
        )  # fmt: skip
    return times


def model(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Time what a user calls, and its parts."""
    from samtrt.backends import BackendOptions
    from samtrt.choices import PixelWork
    from samtrt.encoding import encode_together, prepare
    from samtrt.predictor import Predictor
    from samtrt.preparation.prompts import build_prompts

    backend = BackendOptions(device=f"cuda:{options.gpu}", pixels=PixelWork(options.pixels))
    with Predictor.load(options.directory, "tensorrt", backend) as predictor:
        memory = predictor.decoder.memory or predictor.decoder._memory
        cuda, image = memory.cuda, picture(SIZE)
        timer = Timer(cuda, options.runs)
        times: dict[str, Any] = {}
        times["set_image"] = timer(lambda: predictor.set_image(image))
        prepared = prepare(image, predictor.manifest, memory=predictor.encoder.memory)
        encode = partial(encode_together, predictor.encoder, [prepared])
        times["encoder"] = timer(encode) | own_time(predictor.encoder, encode, options.runs)
        embedding, frame = predictor.embedding, predictor.embedding.frame
        points = np.random.default_rng(0).uniform(100, 1000, (64, 1, 2))
        boxes = np.concatenate([points[:, 0], points[:, 0] + 150], axis=1)
        for count in (1, 2, 4, 16, 64):
            prompts = build_prompts(frame, points[:count], np.ones((count, 1)))
            decode = partial(drain, predictor, embedding, prompts)
            own = own_time(predictor.decoder, decode, options.runs)
            times[f"decoder, {count}"] = timer(decode) | own
        one_mask = {"multimask_output": False}
        for name, call in (
            ("click: three masks on the host", partial(predictor.predict, points[0], [1])),
            (
                "a box: one mask on the host",
                partial(predictor.predict, box=boxes[0], **one_mask),
            ),
            ("64 boxes to RLE", partial(predictor.predict_rle, boxes=boxes, **one_mask)),
            ("64 boxes to masks", partial(predictor.predict_batch, boxes=boxes, **one_mask)),
        ):
            times[name] = timer(call)
    return {"times": times}, True


def throughput(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Count images a second through the encoder, by the wall: in batches, and on two streams."""
    from samtrt.backends import BackendOptions
    from samtrt.backends.tensorrt.backend import TensorRtBackend
    from samtrt.choices import Stage, Target
    from samtrt.manifest import Manifest

    manifest = Manifest.load(options.directory)
    encoders = [
        TensorRtBackend(
            *(options.directory, manifest, Stage.ENCODER, Target.TENSORRT),
            BackendOptions(device=f"cuda:{options.gpu}"),
        )
        for _ in range(2)
    ]
    side = manifest.input_size
    images = np.random.default_rng(0).normal(size=(8, 3, side, side)).astype(np.float32)

    given: dict[tuple[int, int], Any] = {}
    for number, encoder in enumerate(encoders):
        for count in options.counts:
            given[number, count] = {"images": encoder.memory.upload(images[:count])}
        encoder.memory.synchronize()

    def repeat(number: int, count: int) -> None:
        for _ in range(options.runs):
            encoders[number].run(given[number, count], on_host=False)

    times: dict[str, Any] = {}
    for count in options.counts:
        repeat(0, count)
        asked = subprocess.Popen(CLOCK, stdout=subprocess.PIPE, text=True)
        start = time.perf_counter()
        repeat(0, count)
        wall = (time.perf_counter() - start) / options.runs
        clock, watts = asked.communicate()[0].strip().split(", ")
        times[f"batch {count}"] = {
            "wall_ms": round(wall * 1e3, 3),
            "engine_ms": round(encoders[0].device_time_ms, 3),
            "images_per_second": round(count / wall, 1),
            "mhz": float(clock),
            "watts": float(watts),
        }
    with ThreadPoolExecutor(2) as pool:
        for count in sorted({1, 8} & set(options.counts)):
            for _ in range(2):  # the first warms up
                start = time.perf_counter()
                list(pool.map(repeat, (0, 1), (count, count)))
                wall = (time.perf_counter() - start) / options.runs
            times[f"two streams, batch {count}"] = {"images_per_second": round(2 * count / wall, 1)}
    for encoder in encoders:
        encoder.close()
    return {"times": times}, True


def drain(predictor: Any, *arguments: Any) -> None:
    """Decode, and leave what comes where it is."""
    for _ in predictor.decoded(*arguments):
        pass


def own_time(backend: Any, run: Callable[[], Any], runs: int) -> dict[str, float]:
    """Return p50 of the engine's own milliseconds, without what is copied around it."""
    found = []
    for _ in range(runs):
        run()
        found.append(backend.device_time_ms)
    return {"engine_ms": round(statistics.median(found), 3)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("kernels")
    one.add_argument("--small", action="store_true")
    one.set_defaults(run=kernels)
    two = commands.add_parser("model")
    two.add_argument("directory", type=Path)
    two.add_argument("--pixels", default="device", choices=["device", "host"])
    two.set_defaults(run=model)
    three = commands.add_parser("throughput")
    three.add_argument("directory", type=Path)
    three.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8])
    three.set_defaults(run=throughput)
    for command in (one, two, three):
        command.add_argument("--gpu", type=int, default=0)
        command.add_argument("--runs", type=int, default=30)
        command.add_argument("--json", type=Path)
    options = parser.parse_args()
    result, right = options.run(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    for name, value in result.get("times", {}).items():
        print(f"{name}: {value}")
    for name, value in result.get("right", {}).items():
        if not value:
            print(f"WRONG: {name}")
    print("right" if right else "NOT right")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
