"""verify on videos: what is right passes, what drifts is found on the frames where it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samtrt.choices import BackendName, Precision, VideoStage
from samtrt.cli.options import Engines
from samtrt.cli.verify_video import clip_to_follow, video_table
from samtrt.errors import VerificationError
from samtrt.types import TensorInfo
from samtrt.verification.reference import load_reference, record
from samtrt.verification.report import THRESHOLDS, FrameResult, VideoReport
from samtrt.verification.video import (
    FRAMES,
    SIZE,
    Clip,
    Followed,
    built_in_clip,
    clip_of,
    compare_video,
    follow_clip,
)
from samtrt.video.predictor import VideoPredictor
from support.fake_runtime import fake_predictor
from support.fake_video import fake_engines
from support.samples import make_video_manifest

MANIFEST = make_video_manifest()
EXACT = THRESHOLDS[Precision.FP32]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return built_in_clip()


@pytest.fixture(scope="module")
def expected(clip: Clip) -> Followed:
    with VideoPredictor(fake_engines(MANIFEST)) as predictor:
        return follow_clip(predictor, clip)


def spoiled(
    stage: VideoStage, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> VideoPredictor:
    """Return a predictor, the results of one of whose stages are changed."""
    engines = fake_engines(MANIFEST)
    engine = engines._engines[stage]
    right = engine._compute
    engine._compute = lambda feeds: change(right(feeds))  # type: ignore[method-assign]
    return VideoPredictor(engines)


def test_the_same_is_the_same(clip: Clip, expected: Followed) -> None:
    assert expected.masks.shape == (FRAMES, 2, *SIZE)
    assert expected.corrected is not None
    assert expected.corrected.shape == (FRAMES - clip.middle, 2, *SIZE)
    assert 0.01 < expected.masks.mean() < 0.99
    before, after = expected.masks[clip.middle :], expected.corrected
    assert (before[:, 1] != after[:, 1]).any(axis=(1, 2)).all(), "a correction holds"
    assert (before[:, 0] == after[:, 0]).all(), "and is of one object"
    told: list[str] = []
    with VideoPredictor(fake_engines(MANIFEST)) as predictor:
        got = follow_clip(predictor, clip, told.append)
    report = compare_video(clip, expected, got)
    assert set(report.ious) == {1.0}
    assert report.failures(EXACT) == []
    assert [one.frame for one in report.frames] == [*range(FRAMES), *range(5, FRAMES)]
    assert len(told) == FRAMES + 5
    assert told[-1] == "after a correction: frame 10 of 10 (fake)"


def test_drift_is_found_where_it_is(clip: Clip, expected: Followed) -> None:
    """Memories that are too large from the fourth frame on: what follows is wrong."""
    made = 0

    def larger(out: dict[str, Any]) -> dict[str, Any]:
        nonlocal made
        made += 1
        return {"memories": out["memories"] * np.float32(1.5 if made > 5 else 1)}

    with spoiled(VideoStage.MEMORY_ENCODER, larger) as predictor:
        report = compare_video(clip, expected, follow_clip(predictor, clip))
    lowest = [min(one.ious) for one in report.frames[:FRAMES]]
    assert lowest[:4] == [1.0] * 4
    assert max(lowest[5:]) < 0.999
    found = report.failures(EXACT)
    assert found[0].startswith("mean mask IoU over the built-in clip is 0.")
    assert "a mask on frame " in found[1]
    table = video_table(report)
    assert table.row_count == 7
    shown = [*table.columns[0].cells]
    assert (shown[0], shown[3], shown[-1]) == ("0 to 2", "9", "9, corrected")
    means = [float(cell) for cell in table.columns[1].cells]
    assert means[0] > means[2]


def test_objects_that_are_lost_are_counted(clip: Clip, expected: Followed) -> None:
    def lose(out: dict[str, Any]) -> dict[str, Any]:
        return {**out, "object_score_logits": -np.abs(out["object_score_logits"])}

    with spoiled(VideoStage.VIDEO_DECODER, lose) as predictor:
        report = compare_video(clip, expected, follow_clip(predictor, clip))
    assert sum(one.presence_differs for one in report.frames) > FRAMES
    assert min(report.ious) == 0


def test_engines_without_room_for_corrections_are_compared_without(
    clip: Clip, expected: Followed
) -> None:
    engines = fake_engines(MANIFEST)
    inputs = engines._engines[VideoStage.MEMORY_ATTENTION].inputs
    info = inputs["has_memory"]
    inputs["has_memory"] = TensorInfo(info.name, info.dtype, info.shape, (8, 7))
    with VideoPredictor(engines) as predictor:
        got = follow_clip(predictor, clip)
    assert got.corrected is None
    assert len(compare_video(clip, expected, got).frames) == FRAMES


def test_a_stored_reference_has_the_clips_masks(
    clip: Clip, expected: Followed, tmp_path: Path, picture: np.ndarray
) -> None:
    path, images = tmp_path / "reference.safetensors", {"noise": picture}
    record(path, fake_predictor(MANIFEST), images, video=(clip, expected))
    stored = load_reference(path, MANIFEST, images).followed(clip)
    assert set(compare_video(clip, expected, stored).ious) == {1.0}
    assert np.array_equal(stored.masks, expected.masks)
    reference = load_reference(path, MANIFEST, images)
    with pytest.raises(VerificationError, match=r"another clip, not of .* with 4 frames"):
        reference.followed(built_in_clip(4))
    record(path, fake_predictor(MANIFEST), images)
    with pytest.raises(VerificationError, match=r"images alone, .* out by --no-video"):
        load_reference(path, MANIFEST, images).followed(clip)
    packed = {**expected.packed(), "masks": np.zeros((1, 2), np.uint8)}
    with pytest.raises(ValueError, match="masks of its clip is uint8"):
        Followed.unpacked(packed, clip)


def test_which_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The built-in one where there are graphs for videos; one that is named needs them."""
    engines = Engines(tmp_path, BackendName.ONNXRUNTIME, None, 0, None)
    found = clip_to_follow(engines, MANIFEST, None, 3)
    assert found is not None
    assert (found.name, len(found.frames)) == ("the built-in clip", 3)
    images = MANIFEST.model_copy(update={"files": {}})
    assert clip_to_follow(engines, images, None, 3) is None
    assert "has no graphs for videos" in capsys.readouterr().err
    with pytest.raises(VerificationError, match=r"no graphs for videos .*, which --video needs"):
        clip_to_follow(engines, images, tmp_path, 3)
    built = Engines(tmp_path, BackendName.TENSORRT, None, 0, None)
    assert clip_to_follow(built, MANIFEST, None, 3) is None
    assert "has no tensorrt engines for videos" in capsys.readouterr().err
    for number in range(5):
        picture = np.full((20, 30, 3), number, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    own = clip_to_follow(engines, MANIFEST, tmp_path, 3)
    assert own is not None
    assert (own.name, [frame.max() for frame in own.frames]) == (tmp_path.name, [0, 1, 2])
    with pytest.raises(VerificationError, match="has one frame"):
        clip_of("short", own.frames[:1])


def test_limits_of_half_precision_are_wider() -> None:
    frames = (FrameResult(0, False, (1.0, 0.96), 0), FrameResult(1, False, (1.0, 1.0), 0))
    report = VideoReport("a clip", (10, 10), frames)
    assert report.failures(THRESHOLDS[Precision.FP16]) == []
    assert len(report.failures(EXACT)) == 2
