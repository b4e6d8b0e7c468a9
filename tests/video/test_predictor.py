"""Objects followed through a video, frame by frame beside the official predictor."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from samtrt.backends.pytorch import PyTorchBackend, manifest_of
from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import Stage, VideoStage
from samtrt.errors import ImageError, PromptError
from samtrt.masks.logits import mask_iou
from samtrt.registry import get_spec
from samtrt.video.engines import VideoEngines
from samtrt.video.masks import fill_holes
from samtrt.video.predictor import VideoPredictor
from samtrt.video.session import StreamingSession
from support.oracle import official_sam2
from support.videos import moving_picture

FRAMES, SIZE = 24, (96, 160)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return moving_picture(FRAMES, SIZE)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(0.0, id="at times gone"),
        pytest.param(1.05, id="present", marks=pytest.mark.long),
    ],
)
def weights(request: pytest.FixtureRequest, sam2_checkpoint: Path) -> dict[str, torch.Tensor]:
    """Seeded weights, but for how sure they are that an object is there."""
    state = torch.load(sam2_checkpoint, weights_only=True)["model"]
    state["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += request.param
    return state


@pytest.fixture(scope="module")
def ours(
    weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VideoPredictor]:
    path = tmp_path_factory.mktemp("video") / "sam2.pt"
    torch.save({"model": weights}, path)
    checkpoint = load_checkpoint(path)
    manifest, sam = manifest_of(checkpoint), load_sam(checkpoint)
    stages = {stage: PyTorchBackend(sam, manifest, stage) for stage in (Stage.ENCODER, *VideoStage)}
    engines = VideoEngines(manifest, stages.pop(Stage.ENCODER), stages)
    with VideoPredictor(engines, fill_hole_area=0) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def official(weights: dict[str, torch.Tensor]) -> Any:
    model = official_sam2(get_spec("sam2.1_hiera_t"), video=True)
    model.load_state_dict(weights)
    model.fill_hole_area = 0  # it has no code for that but CUDA's
    return model


@pytest.fixture
def states(
    ours: VideoPredictor, official: Any, frames: list[np.ndarray], tmp_path: Path
) -> tuple[Any, Any]:
    """The same video in both; the official code reads JPEGs, which are given back as they were."""
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number}.jpg", quality=95)
    read = [np.asarray(Image.open(tmp_path / f"{i}.jpg").convert("RGB")) for i in range(FRAMES)]
    return ours.init_state(read), official.init_state(str(tmp_path), offload_video_to_cpu=True)


def assert_same(got: Any, expected: Any) -> None:
    assert got[0] == expected[0]
    assert got[1] == expected[1]
    theirs = expected[2].numpy()
    assert got[2].shape == theirs.shape
    for mine, other in zip(got[2] > 0, theirs > 0, strict=True):
        assert mask_iou(mine, other) >= 0.999
    assert np.abs(got[2] - theirs).max() <= 2e-2 * max(np.abs(theirs).max(), 1)


class Both:
    """Ask both, and compare what they answer."""

    def __init__(self, ours: VideoPredictor, official: Any, states: tuple[Any, Any]) -> None:
        self.predictors, self.states = (ours, official), states

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any, **named: Any) -> Any:
            got, expected = (
                getattr(predictor, name)(state, *arguments, **named)
                for predictor, state in zip(self.predictors, self.states, strict=True)
            )
            if name == "propagate_in_video":
                masks = []
                for mine, other in zip(got, expected, strict=True):
                    assert_same(mine, other)
                    masks.append(mine[2] > 0)
                assert 0.01 < np.mean(masks) < 0.99
                return len(masks)
            if name.startswith(("add", "clear")):
                assert_same(got, expected)
            return got, expected

        return ask


def test_three_objects_with_corrections_forward_and_backward(
    ours: VideoPredictor, official: Any, states: tuple[Any, Any]
) -> None:
    both = Both(ours, official, states)
    both.add_new_points_or_box(8, 1, points=[[100, 40]], labels=[1])
    both.add_new_points_or_box(8, 2, box=[60, 30, 110, 80])
    both.add_new_points_or_box(8, 2, points=[[90, 60], [20, 20]], labels=[1, 0])
    mask = np.zeros(SIZE, bool)
    mask[40:70, 20:60] = True
    both.add_new_mask(8, 7, mask)
    assert both.propagate_in_video() == FRAMES - 8
    # A correction in the middle, of one object, and what follows from it.
    both.add_new_points_or_box(15, 2, points=[[70, 50]], labels=[1])
    both.add_new_points_or_box(15, 2, points=[[30, 60]], labels=[0], clear_old_points=False)
    assert both.propagate_in_video(start_frame_idx=15, max_frame_num_to_track=5) == 6
    assert both.propagate_in_video(start_frame_idx=8, reverse=True) == 9
    # A second prompted frame of an object, on one that was not tracked... and it is forgotten.
    both.clear_all_prompts_in_frame(15, 2)
    assert both.propagate_in_video(start_frame_idx=14, max_frame_num_to_track=3) == 4


@pytest.mark.long
def test_a_second_prompted_frame(
    ours: VideoPredictor, official: Any, states: tuple[Any, Any]
) -> None:
    both = Both(ours, official, states)
    both.add_new_points_or_box(2, 1, points=[[100, 40]], labels=[1])
    both.add_new_points_or_box(12, 1, points=[[60, 50]], labels=[1])
    both.add_new_points_or_box(2, 5, box=[10, 10, 60, 60])
    assert both.propagate_in_video(max_frame_num_to_track=14) == 15


@pytest.mark.long
def test_corrections_that_count_as_prompts(
    ours: VideoPredictor,
    official: Any,
    states: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for one in (ours, official):
        monkeypatch.setattr(one, "add_all_frames_to_correct_as_cond", True)
    both = Both(ours, official, states)
    both.add_new_points_or_box(2, 1, points=[[100, 40]], labels=[1])
    both.add_new_points_or_box(2, 5, box=[10, 10, 60, 60])
    assert both.propagate_in_video(max_frame_num_to_track=6) == 7
    both.add_new_points_or_box(6, 1, points=[[60, 50]], labels=[1])
    assert both.propagate_in_video(start_frame_idx=6, max_frame_num_to_track=4) == 5


def test_objects_are_removed(ours: VideoPredictor, official: Any, states: tuple[Any, Any]) -> None:
    both = Both(ours, official, states)
    for number in (3, 4):
        both.add_new_points_or_box(0, number, points=[[30 * number, 40]], labels=[1])
    assert both.propagate_in_video(max_frame_num_to_track=2) == 3
    (ids, updated), (their_ids, theirs) = both.remove_object(3)
    assert ids == their_ids == [4]
    assert [frame for frame, _ in updated] == [frame for frame, _ in theirs] == [0]
    assert both.propagate_in_video(start_frame_idx=2, max_frame_num_to_track=1) == 2
    with pytest.raises(PromptError, match="there is no object 3"):
        ours.remove_object(states[0], 3, strict=True)
    ours.reset_state(states[0])
    with pytest.raises(PromptError, match="no object is pointed at"):
        next(ours.propagate_in_video(states[0]))


def test_bad_prompts_are_refused(ours: VideoPredictor, states: tuple[Any, Any]) -> None:
    state = states[0]
    with pytest.raises(PromptError, match="no frame 99"):
        ours.add_new_points_or_box(state, 99, 1, points=[[1, 1]], labels=[1])
    with pytest.raises(PromptError, match="points or a box"):
        ours.add_new_points_or_box(state, 0, 1)
    with pytest.raises(PromptError, match="one a point"):
        ours.add_new_points_or_box(state, 0, 1, points=[[1, 1]], labels=[4])
    with pytest.raises(PromptError, match="of logits give logits > 0"):
        ours.add_new_mask(state, 0, 1, np.full(SIZE, -3.0))


def test_holes_are_filled() -> None:
    logits = np.full((12, 12), 5.0, np.float32)
    logits[2:4, 2:4] = -3  # four cells
    logits[6:10, 6:10] = -3  # sixteen
    filled = fill_holes(logits, 8)
    assert (filled[2:4, 2:4] > 0).all()
    assert (filled[6:10, 6:10] < 0).all()


@pytest.mark.long
def test_a_camera_is_followed_as_a_video_is(ours: VideoPredictor, frames: list[np.ndarray]) -> None:
    state, session = ours.init_state(frames), StreamingSession(ours)
    with pytest.raises(PromptError, match="no frame has come yet"):
        session.add_new_points_or_box(1, points=[[1, 1]], labels=[1])
    assert session.track(frames[0])[2].shape == (0, 1, *SIZE)
    for obj_id, point in ((1, [100, 40]), (2, [30, 50])):
        expected = ours.add_new_points_or_box(state, 0, obj_id, points=[point], labels=[1])
        got = session.add_new_points_or_box(obj_id, points=[point], labels=[1])
        np.testing.assert_array_equal(got[2], expected[2])
    for number, ids, expected_logits in ours.propagate_in_video(state):
        if number:
            got = session.track(frames[number])
            assert got[:2] == (number, ids)
            np.testing.assert_allclose(got[2], expected_logits, atol=1e-3)


@pytest.mark.long
def test_a_camera_takes_no_more_memory_with_time(
    ours: VideoPredictor, frames: list[np.ndarray]
) -> None:
    session = StreamingSession(ours)
    session.track(frames[0])
    held, allocated = [], []
    gc.collect()
    tracemalloc.start()
    for number in range(45):
        if number % 6 == 0:
            session.add_new_points_or_box(1 + number % 2, points=[[50, 50 + number]], labels=[1])
        session.track(frames[number % FRAMES])
        tracks = session._state.tracks.values()
        held.append(max(len(one.others) + len(one.tracked) + len(one.prompted) for one in tracks))
        allocated.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert session.frame_idx == 45
    assert max(held[22:]) <= max(held[:22]) + 1
    # An object's memory of a frame is 13 kB here, and there are two.
    assert max(allocated[35:]) - max(allocated[22:35]) < 100_000
    assert session.remove_object(1) == []
    with pytest.raises(ImageError, match="those before were 160 x 96"):
        session.track(frames[0][:50])


def test_an_object_that_comes_while_others_are_tracked_waits(
    ours: VideoPredictor, official: Any, states: tuple[Any, Any]
) -> None:
    both = Both(ours, official, states)
    both.add_new_points_or_box(0, 1, points=[[100, 40]], labels=[1])
    steps = [
        one.propagate_in_video(state) for one, state in zip(both.predictors, states, strict=True)
    ]
    for number in range(4):
        assert_same(*map(next, steps))
        if number == 1:
            both.add_new_points_or_box(1, 9, points=[[30, 50]], labels=[1])
    both.add_new_points_or_box(2, 1, points=[[60, 50]], labels=[1])
    assert both.propagate_in_video(start_frame_idx=1, max_frame_num_to_track=2) == 3


def test_what_fails_leaves_no_object(ours: VideoPredictor, frames: list[np.ndarray]) -> None:
    other = [*frames[:2], frames[2][:50]]
    state = ours.init_state(other)
    for add in (
        lambda: ours.add_new_points_or_box(state, 2, 1, points=[[1, 1]], labels=[1]),
        lambda: ours.add_new_mask(state, 2, 1, np.ones(SIZE, bool)),
    ):
        with pytest.raises(ImageError, match="frame 2 is 160 x 50 and the first is 160 x 96"):
            add()
    with pytest.raises(PromptError, match="the shape H x W"):
        ours.add_new_mask(state, 0, 1, np.ones((0, 5), bool))
    assert state.obj_ids == []
    ours.add_new_points_or_box(state, 0, 1, points=[[100, 40]], labels=[1])
    with pytest.raises(ImageError, match="frame 2 is"):
        list(ours.propagate_in_video(state))


def test_frames_that_are_not_there_are_told(
    ours: VideoPredictor, frames: list[np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="open_frames"):
        ours.init_state(str(tmp_path))  # type: ignore[arg-type]
    state = ours.init_state(frames[:3])
    ours.add_new_points_or_box(state, 0, 1, points=[[100, 40]], labels=[1])
    for asked in ({"start_frame_idx": -1}, {"start_frame_idx": 3, "reverse": True}):
        with pytest.raises(PromptError, match=r"the video has 0\.\.2"):
            list(ours.propagate_in_video(state, **asked))  # type: ignore[arg-type]
    with pytest.raises(PromptError, match=r"no frame 1\.5"):
        ours.add_new_points_or_box(state, 1.5, 1, points=[[1, 1]], labels=[1])  # type: ignore[arg-type]
