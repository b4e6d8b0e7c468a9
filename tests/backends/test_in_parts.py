"""Decoders in parts: what is kept of an image, when, and that answers do not change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.backends import BackendOptions, in_parts, open_backend
from samtrt.backends.in_parts import KEPT_IMAGES, DecoderInParts, open_in_parts
from samtrt.backends.ort import OnnxRuntimeBackend
from samtrt.backends.parts import Part
from samtrt.choices import BackendName, Stage
from samtrt.errors import BackendError
from samtrt.manifest import FileEntry, Manifest
from samtrt.types import Embedding

Feeds = dict[str, Any]


@pytest.fixture(params=[BackendName.ONNXRUNTIME, BackendName.OPENVINO])
def decoder(request: pytest.FixtureRequest, sam2_model: Path) -> Iterator[DecoderInParts]:
    pytest.importorskip(request.param.value)
    manifest = Manifest.load(sam2_model)
    with open_backend(request.param, sam2_model, manifest, Stage.DECODER) as opened:
        assert isinstance(opened, DecoderInParts)
        yield opened


@pytest.fixture
def whole(sam2_model: Path) -> Iterator[OnnxRuntimeBackend]:
    with OnnxRuntimeBackend(sam2_model / "decoder.onnx", BackendOptions()) as opened:
        yield opened


def image(model: Path, seed: int = 0) -> Feeds:
    """Maps that cannot be written to, as those of an embedding."""
    manifest, rng = Manifest.load(model), np.random.default_rng(seed)
    maps = {one.name: rng.normal(size=(1, *one.shape)).astype(np.float32) for one in manifest.maps}
    return dict(Embedding.of(maps, manifest.frame((60, 80))).maps)


def prompts(model: Path, count: int = 1, masks: int = 0) -> Feeds:
    """Points for all, and masks for the first few."""
    size, rng = Manifest.load(model).mask_size, np.random.default_rng(1)
    return {
        "point_coords": rng.uniform(0, 200, (count, 2, 2)).astype(np.float32),
        "point_labels": np.ones((count, 2), np.float32),
        "mask_input": rng.normal(size=(count, 1, size, size)).astype(np.float32),
        "has_mask_input": (np.arange(count) < masks).astype(np.float32),
    }


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What each run of a part took."""
    found: list[tuple[str, ...]] = []
    honest = in_parts._run

    def noted(part: Any, values: Any) -> Any:
        found.append(tuple(part.inputs))
        return honest(part, values)

    monkeypatch.setattr(in_parts, "_run", noted)
    return found


@pytest.mark.parametrize(("count", "masks"), [(1, 0), (1, 1), (3, 0), (3, 1), (3, 3)])
def test_answers_are_those_of_the_whole(
    decoder: DecoderInParts, whole: OnnxRuntimeBackend, sam2_model: Path, count: int, masks: int
) -> None:
    first, second = image(sam2_model), image(sam2_model, seed=5)
    for maps in (first, second, first, first):
        feeds = {**maps, **prompts(sam2_model, count, masks)}
        wanted, got = whole.run(feeds), decoder.run(feeds)
        assert list(got) == list(wanted)
        for name, array in wanted.items():
            assert got[name].shape == array.shape
            np.testing.assert_allclose(got[name], array, rtol=0, atol=2e-4)


def test_a_click_runs_the_last_part_alone(
    decoder: DecoderInParts, sam2_model: Path, runs: list[tuple[str, ...]]
) -> None:
    feeds = {**image(sam2_model), **prompts(sam2_model)}
    decoder.run(feeds)
    assert len(runs) == 3
    decoder.run({**feeds, "point_coords": feeds["point_coords"] + 9})
    assert len(runs) == 4
    assert "point_coords" in runs[-1]
    decoder.run({**feeds, **prompts(sam2_model, 2, masks=1)})
    assert len(runs) == 6
    assert "mask_input" in runs[-2]


def test_as_many_images_are_kept(
    decoder: DecoderInParts, sam2_model: Path, runs: list[tuple[str, ...]]
) -> None:
    images = [image(sam2_model, seed) for seed in range(KEPT_IMAGES + 1)]
    clicks = [{**maps, **prompts(sam2_model)} for maps in images]
    for feeds in clicks:
        decoder.run(feeds)
    runs.clear()
    decoder.run(clicks[1])
    assert len(runs) == 1
    decoder.run(clicks[0])  # which puts out the image that was asked for longest ago
    assert len(runs) == 4
    decoder.run(clicks[1])
    assert len(runs) == 5
    decoder.run(clicks[2])
    assert len(runs) == 8


def test_arrays_that_may_change_are_read_each_time(
    decoder: DecoderInParts, whole: OnnxRuntimeBackend, sam2_model: Path
) -> None:
    maps = {name: array.copy() for name, array in image(sam2_model).items()}
    feeds = {**maps, **prompts(sam2_model)}
    before = decoder.run(feeds)["low_res_masks"]
    for array in maps.values():
        array *= -1
    after = decoder.run(feeds)["low_res_masks"]
    assert not np.allclose(before, after, atol=1e-2)
    np.testing.assert_allclose(after, whole.run(feeds)["low_res_masks"], rtol=0, atol=2e-4)


def test_a_closed_decoder_keeps_nothing(decoder: DecoderInParts, sam2_model: Path) -> None:
    feeds = {**image(sam2_model), **prompts(sam2_model)}
    decoder.run(feeds)
    decoder.close()
    decoder.close()
    assert not decoder._kept
    with pytest.raises(BackendError, match="closed"):
        decoder.run(feeds)


@pytest.mark.parametrize("fixture", ["tiny_model", "hq_model", "sam2_model", "edgetam_model"])
def test_decoders_of_every_family_have_parts(request: pytest.FixtureRequest, fixture: str) -> None:
    directory: Path = request.getfixturevalue(fixture)
    manifest = Manifest.load(directory)
    with open_backend("onnxruntime", directory, manifest, Stage.DECODER) as decoder:
        assert isinstance(decoder, DecoderInParts)
    with open_backend("onnxruntime", directory, manifest, Stage.ENCODER) as encoder:
        assert isinstance(encoder, OnnxRuntimeBackend)


def test_what_has_no_parts_is_opened_whole(tiny_model: Path, tmp_path: Path) -> None:
    asked: list[Part | None] = []

    def opened(part: Part | None) -> Any:
        asked.append(part)
        return "whole"

    manifest = Manifest.load(tiny_model)
    damaged = tmp_path / "decoder.onnx"
    damaged.write_bytes((tiny_model / "decoder.onnx").read_bytes()[:-1000])
    assert open_in_parts(damaged, manifest, Stage.DECODER, opened) == "whole"  # type: ignore[comparison-overlap]
    # Weights beside the graph are found by its path alone.
    entries = manifest.files[Stage.DECODER]
    beside = manifest.model_copy(update={"files": {Stage.DECODER: (*entries, *entries)}})
    path = tiny_model / "decoder.onnx"
    assert open_in_parts(path, beside, Stage.DECODER, opened) == "whole"  # type: ignore[comparison-overlap]
    assert asked == [None, None]


def test_a_part_that_fails_closes_those_before(tiny_model: Path) -> None:
    opened: list[OnnxRuntimeBackend] = []
    path = tiny_model / "decoder.onnx"

    def open_one(part: Part | None) -> OnnxRuntimeBackend:
        if len(opened) == 2:
            raise BackendError("no room")
        opened.append(OnnxRuntimeBackend(path, BackendOptions(), part))
        return opened[-1]

    with pytest.raises(BackendError, match="no room"):
        open_in_parts(path, Manifest.load(tiny_model), Stage.DECODER, open_one)
    for backend in opened:
        with pytest.raises(BackendError, match="closed"):
            backend.run({name: _zeros(info.shape) for name, info in backend.inputs.items()})


def _zeros(shape: tuple[int | str, ...]) -> np.ndarray:
    return np.zeros([1 if isinstance(size, str) else size for size in shape], np.float32)


def test_a_damaged_decoder_is_the_runtimes_error(tiny_model: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(tiny_model, tmp_path / "model")
    path = directory / "decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    manifest = Manifest.load(tiny_model)
    files = {**manifest.files, Stage.DECODER: (FileEntry.of(path),)}
    manifest = manifest.model_copy(update={"files": files})
    with pytest.raises(BackendError, match=r"onnxruntime cannot load .*decoder.onnx"):
        open_backend("onnxruntime", directory, manifest, Stage.DECODER)
