"""Our side of `bench/video_gpu.py`: an image and a click, or objects followed, on built engines."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from samtrt.backends import BackendOptions
from samtrt.backends.base import Backend
from samtrt.encoding import encode_together, prepare
from samtrt.predictor import Predictor
from samtrt.video import tracking
from samtrt.video.engines import VideoEngines
from samtrt.video.predictor import VideoPredictor
from samtrt.video.state import VideoState
from video_scene import KEPT, arguments, clicks, frames, percentiles, save_masks, write


def timed(call: Callable[[], Any], backend: Backend, runs: int) -> dict[str, float]:
    """Return wall times of a call and, on a GPU, its clock's of the engine that it runs."""
    for _ in range(5):
        call()
    wall, own = [], []
    for _ in range(runs):
        begun = time.perf_counter()
        call()
        wall.append(time.perf_counter() - begun)
        own.append(getattr(backend, "device_time_ms", None))
    result = percentiles(wall)
    return result if None in own else {**result, "engine_ms": round(float(np.median(own)), 3)}


def image(options: argparse.Namespace, backend: BackendOptions) -> dict[str, Any]:
    picture = frames(1)[0]
    with Predictor.load(options.directory, options.backend, backend) as predictor:
        encoder, decoder = predictor.encoder, predictor.decoder
        result: dict[str, Any] = {}

        def prepared() -> Any:
            return prepare(picture, predictor.manifest, memory=encoder.memory)

        ready = prepared()
        result["set_image"] = timed(lambda: predictor.set_image(picture), encoder, options.runs)
        result["encode"] = timed(lambda: encode_together(encoder, [ready]), encoder, options.runs)
        click = np.array(clicks(1))
        result["click"] = timed(lambda: predictor.predict(click, [1]), decoder, options.runs)
        save_masks(options.masks, {0: [predictor.predict(click, [1]).masks]})
    return result


PARTS = {VideoEngines: ("encode", "attend", "find", "_decode", "remember", "at_size")}
PARTS |= {tracking: ("queues_of",)}
"""What a frame is made of; `_decode` is a part of `find`."""


@contextmanager
def watched() -> Iterator[dict[str, list[float]]]:
    """Note the wall times of each part's calls, by its name."""
    times: dict[str, list[float]] = defaultdict(list)

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*arguments: Any, **words: Any) -> Any:
            begun = time.perf_counter()
            try:
                return call(*arguments, **words)
            finally:
                times[name].append(time.perf_counter() - begun)

        return timed_call

    with ExitStack() as stack:
        for owner, names in PARTS.items():
            for name in names:
                noting = noted(name, getattr(owner, name))
                stack.enter_context(patch.object(owner, name, noting))
        yield times


def parts_of(predictor: VideoPredictor, state: VideoState) -> dict[str, Any]:
    """Return what a frame's parts take, each alone: frames are not encoded ahead of time."""
    count, times = len(state.frames), []
    with watched() as parts:
        for number in range(count // 2, count):
            begun = time.perf_counter()
            predictor.track_frame(state, number)
            times.append(time.perf_counter() - begun)
    return {
        **percentiles(times),
        "parts_ms": {name: percentiles(found)["p50_ms"] for name, found in parts.items()},
        "engines_ms": engine_times(predictor.engines),
    }


def engine_times(engines: VideoEngines) -> dict[str, float | None]:
    """Return what each engine's last run took by the GPU's clock, in ms; None on a CPU."""
    every = {"encoder": engines.encoder}
    every |= {stage.value: engine for stage, engine in engines._engines.items()}
    own = {name: getattr(one, "device_time_ms", None) for name, one in every.items()}
    return {name: ms and round(ms, 3) for name, ms in own.items()}


def video(options: argparse.Namespace, backend: BackendOptions) -> dict[str, Any]:
    objects, shown = int(options.part), frames(options.frames)
    with VideoPredictor.load(options.directory, options.backend, backend) as predictor:
        predictor.fill_hole_area = 0  # as on the official side
        state = predictor.init_state(shown)
        for number, click in enumerate(clicks(objects)):
            predictor.add_new_points_or_box(state, 0, number, points=[click], labels=[1])
        kept, times, begun = [], [], time.perf_counter()
        for number, _, logits in predictor.propagate_in_video(state):
            times.append(time.perf_counter() - begun)
            if number < KEPT:
                kept.append(logits[:, 0] > 0)
            begun = time.perf_counter()
        save_masks(options.masks, {objects: kept})
        counted = times[options.warmup :]
        own = engine_times(predictor.engines)
        alone = parts_of(predictor, state)
    return {
        "objects": objects,
        "frames_per_second": round(len(counted) / sum(counted), 2),
        **percentiles(counted),
        "engines_ms": own,
        "one_after_the_other": alone,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("part", help="image, or how many objects to follow")
    parser.add_argument("--backend", default="tensorrt")
    arguments(parser)
    options = parser.parse_args()
    backend = BackendOptions(device=options.device)
    write(options.json, (image if options.part == "image" else video)(options, backend))


if __name__ == "__main__":
    main()
