"""How fast a model directory is on a backend: encoder, decoder, and end to end, apart.

Every time is the wall clock's around one whole call, results on the host included, except those of
`device`: what the GPU's own clock says, so that what surrounds it can be seen.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import Backend, Tensors
from samtrt.cuda.clock import StreamClock
from samtrt.decoding import planes_of
from samtrt.encoding import prepare
from samtrt.environment import versions
from samtrt.errors import BackendError
from samtrt.images import read_image
from samtrt.masks.forming import former_of
from samtrt.predictor import Predictor
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import DecoderPrompts, build_prompts
from samtrt.types import Embedding, Tensor, UInt8Array, to_host


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        runs: Timed calls of each case.
        warmup: Calls before, not timed: the first ones allocate, compile and record graphs.
        batch: Images in one encoder call, each a case.
        prompts: Prompts in one decoder call, each a case.
        points: Points of each prompt, the padding point not counted.
    """

    runs: int = 50
    warmup: int = 5
    batch: tuple[int, ...] = (1,)
    prompts: tuple[int, ...] = (1, 4, 16, 64)
    points: int = 1


@dataclass(frozen=True)
class Timing:
    """One case, in milliseconds.

    Attributes:
        part: "encoder", "decoder" or a step of "end to end".
        items: Images or prompts in one call.
        p50, p90, p99, mean, least: Of the wall clock.
        per_second: Images or prompts in a second, by p50.
        device_p50: Of the GPU's own clock: the engine alone; of "upscale" from the first to the
            last of its kernels; of "end to end" the sum of its steps'. None where there is none.
    """

    part: str
    items: int
    p50: float
    p90: float
    p99: float
    mean: float
    least: float
    per_second: float
    device_p50: float | None = None


@dataclass(frozen=True)
class Result:
    """What `samtrt bench --json` writes: figures, and where they come from.

    Attributes:
        skipped: Cases that the engines do not take, and why.
        host_peak_bytes: Most memory that the process has had since it began; None on Windows.
        device_used_bytes: Memory of the GPU in use after all runs, other programs' included.
    """

    model: str
    backend: str
    device: str
    precision: str
    settings: dict[str, Any]
    timings: tuple[Timing, ...]
    skipped: tuple[str, ...]
    host_peak_bytes: int | None
    device_used_bytes: int | None
    checkpoint_sha256: str
    versions: dict[str, str | None]
    machine: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    predictor: Predictor,
    image: Path,
    settings: Settings,
    report: Callable[[str], None] = lambda _: None,
) -> Result:
    """Measure a predictor on an image file.

    Raises:
        ImageError: where the image cannot be read.
        BackendError: where an engine fails.
    """
    timings: list[Timing] = []
    skipped: list[str] = []
    pixels = read_image(image)
    model = predictor.manifest
    one = prepare(pixels, model).pixels
    for size in settings.batch:
        report(f"encoder, {size} at once")
        images: dict[str, Tensor] = {"images": np.repeat(one, size, axis=0)}
        _case(timings, skipped, "encoder", size, predictor.encoder, images, settings)
    embedding = predictor.encode(pixels)
    for size in settings.prompts:
        report(f"decoder, {size} prompts")
        prompts = grid_prompts(embedding, size, settings.points)
        feeds: dict[str, Tensor] = {**embedding.maps, **prompts.part(0, size)}
        _case(timings, skipped, "decoder", size, predictor.decoder, feeds, settings)
    report("end to end")
    timings += end_to_end(predictor, image, settings)
    return Result(
        model=model.model,
        backend=predictor.encoder.name,
        device=predictor.encoder.device,
        precision=predictor.precision,
        settings={**asdict(settings), "image": image.name, "image_size": pixels.shape[:2]},
        timings=tuple(timings),
        skipped=tuple(skipped),
        host_peak_bytes=_host_peak(),
        device_used_bytes=_device_used(predictor.decoder),
        checkpoint_sha256=model.checkpoint.sha256,
        versions=versions(),
        machine=_machine(predictor.encoder.device),
    )


def grid_prompts(embedding: Embedding, count: int, points: int) -> DecoderPrompts:
    """Return prompts of foreground points spread evenly over the image."""
    height, width = embedding.original_size
    side = int(np.ceil(np.sqrt(count * points)))
    ticks = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(ticks * height, ticks * width, indexing="ij")
    coords = np.stack([x.ravel(), y.ravel()], axis=1)[: count * points].reshape(count, points, 2)
    return build_prompts(embedding.frame, coords, np.ones((count, points)))


def form(logits: Tensor, frame: Frame, threshold: float) -> npt.NDArray[Any]:
    """Form three masks of each prompt where their logits are, and bring them to the host."""
    flat = logits.reshape(-1, *logits.shape[2:])
    planes = planes_of(np.tile([1, 2, 3], (len(logits), 1)))
    return to_host(former_of(logits, frame).masks(flat, planes, threshold))


def end_to_end(predictor: Predictor, image: Path, settings: Settings) -> list[Timing]:
    """Time each step from an image file to one prompt's masks, and the whole."""
    threshold = predictor.manifest.mask_threshold
    steps: dict[str, list[float]] = {}
    on_gpu: dict[str, list[float]] = {}

    def step(name: str, call: Callable[[], Any], clock: Clock = no_clock) -> Any:
        start = time.perf_counter()
        result, spent = clock(call)
        steps.setdefault(name, []).append(time.perf_counter() - start)
        if spent is not None:
            on_gpu.setdefault(name, []).append(spent)
        return result

    with ExitStack() as stack:
        encodes, decodes = (engine_clock(one) for one in (predictor.encoder, predictor.decoder))
        memory = predictor.decoder.memory
        forms = stack.enter_context(StreamClock(memory.cuda)) if memory else no_clock

        def whole() -> None:
            pixels: UInt8Array = step("read image", lambda: read_image(image))
            embedding = step("preprocess and encode", lambda: predictor.encode(pixels), encodes)
            prompts = step("prompt", lambda: grid_prompts(embedding, 1, settings.points))
            decode = partial(next, iter(predictor.decoded(embedding, prompts)))
            logits, _ = step("decode", decode, decodes)
            step("upscale", lambda: form(logits, embedding.frame, threshold), forms)

        for _ in range(settings.warmup + settings.runs):
            step("end to end", whole)
    if on_gpu:
        on_gpu["end to end"] = [sum(each) for each in zip(*on_gpu.values(), strict=True)]
    kept = slice(settings.warmup, None)
    return [
        summarize(name, 1, times[kept], on_gpu.get(name, [])[kept]) for name, times in steps.items()
    ]


Clock = Callable[[Callable[[], Any]], tuple[Any, float | None]]
"""Calls something, and returns what it gives and the GPU's milliseconds of it, where known."""


def no_clock(call: Callable[[], Any]) -> tuple[Any, None]:
    """Know nothing of a GPU."""
    return call(), None


def engine_clock(backend: Backend) -> Clock:
    """Return a clock of what a backend's engine takes of a call."""

    def clock(call: Callable[[], Any]) -> tuple[Any, float | None]:
        result = call()
        return result, getattr(backend, "device_time_ms", None)

    return clock


def summarize(
    part: str, items: int, seconds: Sequence[float], device_ms: Sequence[float] = ()
) -> Timing:
    """Turn the seconds of at least one call into figures."""
    ms = np.asarray(seconds) * 1e3
    p50, p90, p99 = (float(np.percentile(ms, q)) for q in (50, 90, 99))
    return Timing(
        part=part,
        items=items,
        p50=p50,
        p90=p90,
        p99=p99,
        mean=float(ms.mean()),
        least=float(ms.min()),
        per_second=items * 1e3 / p50,
        device_p50=float(np.percentile(device_ms, 50)) if len(device_ms) else None,
    )


def _case(
    timings: list[Timing],
    skipped: list[str],
    part: str,
    items: int,
    backend: Backend,
    feeds: Tensors,
    settings: Settings,
) -> None:
    for info in backend.inputs.values():
        if not info.accepts(feeds[info.name].shape):
            skipped.append(f"{part}, {items} at once: {info.name} takes {info}")
            return
    on_host = part != "encoder"  # whose output the decoder takes where it is
    seconds, device = [], []
    for _ in range(settings.warmup + settings.runs):
        start = time.perf_counter()
        backend.run(feeds, on_host)
        seconds.append(time.perf_counter() - start)
        spent = getattr(backend, "device_time_ms", None)
        if spent is not None:
            device.append(spent)
    timings.append(summarize(part, items, seconds[settings.warmup :], device[settings.warmup :]))


def _host_peak() -> int | None:
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device_used(backend: Backend) -> int | None:
    if not hasattr(backend, "device_memory"):
        return None
    free, total = backend.device_memory()
    return int(total - free)


def _machine(device: str) -> dict[str, Any]:
    about: dict[str, Any] = {"system": platform.platform(), "cpu_count": os.cpu_count()}
    if device.startswith("cuda"):
        from samtrt.tensorrt.gpu import find_gpu

        try:
            about["gpu"] = asdict(find_gpu(int(device.partition(":")[2] or 0)))
        except BackendError as error:
            about["gpu"] = str(error)
    return about
