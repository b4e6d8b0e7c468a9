"""bench: what is counted, what is skipped, and where the figures come from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from samtrt.assets import DEMO_PHOTOGRAPH
from samtrt.benchmark import Settings, bench, end_to_end, grid_prompts, summarize
from samtrt.choices import PixelWork
from samtrt.predictor import Predictor
from support.blobs import blob_predictor
from support.oracle import random_image
from support.samples import make_manifest

QUICK = Settings(runs=3, warmup=1, batch=(1, 2), prompts=(1, 5))


def test_every_part_is_timed(fake_predictor: Predictor) -> None:
    calls = {"encoder": 0, "decoder": 0}
    for name in calls:
        backend = getattr(fake_predictor, name)

        def counting(
            feeds: object, on_host: bool = True, name: str = name, run: object = backend.run
        ) -> object:
            calls[name] += 1
            return run(feeds, on_host)  # type: ignore[operator]

        backend.run = counting
    lines: list[str] = []
    result = bench(fake_predictor, DEMO_PHOTOGRAPH, QUICK, lines.append)
    parts = [(timing.part, timing.items) for timing in result.timings]
    assert parts == [
        ("encoder", 1),
        ("decoder", 1),
        ("decoder", 5),
        ("read image", 1),
        ("preprocess and encode", 1),
        ("prompt", 1),
        ("decode", 1),
        ("upscale", 1),
        ("end to end", 1),
    ]
    assert result.skipped == ("encoder, 2 at once: images takes 1 x 3 x 256 x 256",)
    # A case, end to end, and the embedding that the decoder's cases share.
    assert calls == {"encoder": 4 + 4 + 1, "decoder": 2 * 4 + 4}
    whole = result.timings[-1]
    assert whole.least >= max(timing.least for timing in result.timings[3:-1])
    assert (result.backend, result.precision, result.model) == ("fake", "fp32", "vit_t")
    assert result.host_peak_bytes is None or result.host_peak_bytes > 10_000_000
    assert lines[0] == "encoder, 1 at once"


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=40), st.integers(1, 64))
def test_figures(seconds: list[float], items: int) -> None:
    timing = summarize("decoder", items, seconds)
    low, high = min(seconds) * 1e3, max(seconds) * 1e3
    assert timing.least == pytest.approx(low)
    ordered = [low, timing.p50, timing.p90, timing.p99, high]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(ordered))
    assert timing.per_second == pytest.approx(items / np.median(seconds))
    assert timing.device_p50 is None
    assert summarize("decoder", 1, seconds, [2.0, 4.0]).device_p50 == 3.0


@pytest.mark.parametrize(("count", "points"), [(1, 1), (5, 1), (64, 3)])
def test_prompts_lie_in_the_image(
    fake_predictor: Predictor, picture: np.ndarray, count: int, points: int
) -> None:
    embedding = fake_predictor.encode(picture)
    prompts = grid_prompts(embedding, count, points)
    assert prompts.point_coords.shape == (count, points + 1, 2)  # and the padding point
    real = prompts.point_coords[prompts.point_labels == 1]
    height, width = embedding.frame.resized
    assert ((real > 0) & (real < (width, height))).all()
    assert len(np.unique(real, axis=0)) == count * points


def test_the_gpus_own_clock(fake_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")
    from samtrt.backends import BackendOptions
    from samtrt.tensorrt import api as trt_api
    from support import fake_tensorrt

    fake_tensorrt.install(monkeypatch)
    fake_tensorrt.write_engines(fake_directory, prompts=4)
    options = BackendOptions(device="cuda", pixels=PixelWork.HOST)
    with Predictor.load(fake_directory, "tensorrt", options) as predictor:
        result = bench(predictor, DEMO_PHOTOGRAPH, QUICK)
    trt_api.load_api.cache_clear()
    timed = {(timing.part, timing.items): timing.device_p50 for timing in result.timings}
    assert timed["encoder", 1] > 0
    assert timed["decoder", 1] > 0
    assert timed["preprocess and encode", 1] > 0
    assert timed["decode", 1] > 0
    assert timed["upscale", 1] is None, "on the host"
    assert timed["end to end", 1] >= max(timed["preprocess and encode", 1], timed["decode", 1])
    assert [line.split(":")[0] for line in result.skipped] == [
        "encoder, 2 at once",
        "decoder, 5 at once",
    ]
    assert result.device_used_bytes > 0
    assert result.machine["gpu"]["name"] == "Fake GPU"


def test_masks_formed_on_a_gpu_are_timed_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")
    from support.on_device import on_device

    Image.fromarray(random_image(60, 80)).save(tmp_path / "a.png")
    with on_device(monkeypatch, blob_predictor(make_manifest())) as (predictor, _):
        timings = end_to_end(predictor, tmp_path / "a.png", Settings(runs=2, warmup=1))
    timed = {timing.part: timing.device_p50 for timing in timings}
    assert timed["upscale"] is not None
    assert timed["end to end"] == timed["upscale"]
    assert timed["read image"] is None
