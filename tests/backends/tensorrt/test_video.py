"""Objects followed on engines: what passes from frame to frame stays on the GPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, PixelWork, VideoStage
from samtrt.errors import BackendError
from samtrt.tensorrt.record import Exact
from samtrt.types import DeviceArray
from samtrt.video.predictor import VideoPredictor
from samtrt.video.saved import load_tracks, save_tracks
from samtrt.video.state import Found, VideoState
from support import emulated_kernels, fake_runtime, fake_tensorrt
from support.fake_cuda_streams import Cuda
from support.fake_video import fake_engines
from support.samples import make_video_manifest
from support.videos import moving_picture

pytestmark = pytest.mark.usefixtures("cuda")

SIZE, FRAMES = (96, 160), 24
MANIFEST = make_video_manifest()
MEMORY, MASK = 64 * 16 * 16 * 4, 64 * 64 * 4
"""Bytes of an object's memory, and of its low-res logits."""


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return moving_picture(FRAMES, SIZE)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory with engines for up to 3 objects, with one prompted frame or two."""
    made = fake_runtime.write_directory(tmp_path / "model", MANIFEST)
    fake_tensorrt.write_engines(made)
    return made


def load(directory: Path, pixels: PixelWork = PixelWork.HOST) -> VideoPredictor:
    options = BackendOptions(device="cuda", pixels=pixels)
    return VideoPredictor.load(directory, BackendName.TENSORRT, options)


def begin(predictor: VideoPredictor, frames: list[np.ndarray], objects: int = 2) -> VideoState:
    state = predictor.init_state(frames)
    for number in range(objects):
        point = [40 + 30 * number, 30 + 10 * number]
        predictor.add_new_points_or_box(state, 0, number, points=[point], labels=[1])
    return state


def follow(predictor: VideoPredictor, frames: list[np.ndarray]) -> Iterator[Found]:
    state = begin(predictor, frames, 2)
    yield from predictor.propagate_in_video(state)
    yield predictor.add_new_points_or_box(state, 9, 1, points=[[70, 50]], labels=[1])
    yield from predictor.propagate_in_video(state, 9, reverse=True)
    mask = np.zeros(SIZE, bool)
    mask[40:70, 20:60] = True
    yield predictor.add_new_mask(state, 4, 7, mask)
    yield from predictor.propagate_in_video(state, 4, max_frame_num_to_track=3)


@pytest.mark.parametrize("pixels", PixelWork)
def test_as_on_the_host(
    cuda: Cuda, directory: Path, frames: list[np.ndarray], pixels: PixelWork,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Clicks, corrections, masks, both directions, more objects than the engines take at once."""
    if pixels is PixelWork.DEVICE:
        if not shutil.which("g++"):
            pytest.skip("needs g++ to compile the kernels")
        emulated_kernels.install(monkeypatch, cuda)
    with VideoPredictor(fake_engines(MANIFEST)) as predictor:
        expected = [*follow(predictor, frames)]
    with load(directory, pixels) as predictor:
        got = [*follow(predictor, frames)]
    moving = 0
    for (frame, ids, mine), (other, other_ids, theirs) in zip(got, expected, strict=True):
        assert (frame, ids) == (other, other_ids)
        np.testing.assert_allclose(mine, theirs, atol=1e-3)
        moving += 0.01 < (theirs > 0).mean() < 0.99
    assert moving > FRAMES


@pytest.mark.parametrize("least", [2, 3])
def test_fewer_objects_than_engines_take_are_made_up(
    directory: Path, frames: list[np.ndarray], least: int
) -> None:
    """Engines of one fixed number of objects: a click is of one of them, and two are followed."""
    fake_tensorrt.write_engines(directory, least_objects=least)
    with VideoPredictor(fake_engines(MANIFEST)) as predictor:
        expected = [*follow(predictor, frames)]
    with load(directory) as predictor:
        got = [*follow(predictor, frames)]
    for (frame, ids, mine), (other, other_ids, theirs) in zip(got, expected, strict=True):
        assert (frame, ids) == (other, other_ids)
        np.testing.assert_allclose(mine, theirs, atol=1e-3)


def test_the_next_frame_is_encoded_in_what_objects_leave(cuda: Cuda, directory: Path) -> None:
    with load(directory) as predictor:
        engines = predictor.engines
        encoder, *others = (
            cuda.priorities[lane._stream]
            for engine in (engines.encoder, *engines._engines.values())
            for lane in engine._lanes.values()
        )
    assert len(others) == 3
    assert encoder == 0
    assert {*others} == {min(others)}
    assert min(others) < 0


def test_nothing_but_masks_comes_to_the_host(
    cuda: Cuda, directory: Path, frames: list[np.ndarray]
) -> None:
    with load(directory) as predictor:
        state = begin(predictor, frames)
        predictor.settle(state)
        copied = []
        for _ in predictor.track_frames(state, range(FRAMES)):
            copied.append(cuda.copied_to_host)
        track = state.tracks[0]
        assert isinstance(state.encoded and state.encoded[1].features, DeviceArray)
        assert all(isinstance(track.others[at].memory, DeviceArray) for at in range(8, FRAMES))
        far = track.others[1].memory
        assert isinstance(far, np.ndarray), "it is kept for who goes back, and is far"
        assert far.dtype == np.uint16
    said = 2 * (MASK + 4 * 4 * 256 + 100)
    near, later = np.diff(copied[2:16]), np.diff(copied[20:])
    assert near.max() < said < 2 * MEMORY
    # Far memories come beside the next frame: of two frames in one at most, and none twice.
    assert later.max() < said + 2 * 2 * MEMORY
    assert later.sum() < len(later) * said + (len(later) + 1) * 2 * MEMORY


def test_a_file_of_what_is_remembered_loses_nothing(
    directory: Path, frames: list[np.ndarray], tmp_path: Path
) -> None:
    with load(directory) as predictor:
        state = begin(predictor, frames)
        predictor.settle(state)
        whole = [found[2] for found in predictor.track_frames(state, range(10))]
        again = begin(predictor, frames)
        predictor.settle(again)
        for _ in predictor.track_frames(again, range(5)):
            pass
        save_tracks(tmp_path / "tracks", again.tracks, {})
        saved = load_tracks(tmp_path / "tracks", {})
        assert saved
        fresh = predictor.init_state(frames)
        fresh.tracks.update(saved[0])
        rest = [found[2] for found in predictor.track_frames(fresh, range(5, 10))]
    np.testing.assert_array_equal(rest, whole[5:])


def test_engines_for_one_number_of_objects(directory: Path, frames: list[np.ndarray]) -> None:
    """They run where that many are followed, and the others where a user corrects."""
    fake_tensorrt.write_engines(directory, exact_objects=Exact(2, 7))
    with load(directory) as predictor:
        state = begin(predictor, frames)
        for _ in predictor.propagate_in_video(state, max_frame_num_to_track=3):
            pass
        for engine in predictor.engines._engines.values():
            assert engine._last is engine._lanes[Exact(2, 7)]
            assert engine._last._graph is not None, "the same shapes each time: a CUDA graph"
        predictor.add_new_points_or_box(state, 3, 0, points=[[70, 50]], labels=[1])
        attention = predictor.engines._engines[VideoStage.MEMORY_ATTENTION]
        assert attention._last is attention._lanes[None], "of one object"


def test_more_prompted_frames_than_the_profile_has_room_for(
    directory: Path, frames: list[np.ndarray]
) -> None:
    with load(directory) as predictor:
        state = predictor.init_state(frames)
        for at in (0, 3, 6):
            predictor.add_new_points_or_box(state, at, 0, points=[[40, 30]], labels=[1])
        with pytest.raises(
            BackendError, match=r"memories has 9 memories .* --memories 7:7:9 --pointers 16:16:18"
        ):
            list(predictor.propagate_in_video(state))
