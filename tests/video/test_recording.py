"""The files of a tracked video: what they are called, and what goes when all begins anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samtrt.choices import Direction
from samtrt.errors import ImageError, PromptError
from samtrt.types import UInt8Array
from samtrt.video.following import follow, order_of
from samtrt.video.frames import open_frames
from samtrt.video.predictor import VideoPredictor
from samtrt.video.prompts import Prompt
from samtrt.video.recording import Recording
from samtrt.video.sequence import Frames
from support.fake_video import fake_engines
from support.moving_objects import video_manifest
from support.videos import numbered, write_video


@pytest.fixture
def predictor() -> VideoPredictor:
    return VideoPredictor(fake_engines(video_manifest()))


def follow_into(
    predictor: VideoPredictor, frames: Frames, out: Path, *prompts: Prompt
) -> Recording:
    settings = {"prompts": [one.facts() for one in prompts]}
    recording = Recording(out, frames.name, settings, False, frames.names)
    order = order_of(prompts, len(frames), Direction.FORWARD, None)
    try:
        follow(predictor, frames, prompts, order, recording)
        recording.finish((48, 64), frames.names, is_last=True)
    finally:
        recording.close()
    return recording


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture
def clip(tmp_path: Path) -> Frames:
    return open_frames(write_video(tmp_path / "clip.mp4", numbered(4)))


def test_pictures_of_ids_have_the_names_of_a_folders_frames(
    predictor: VideoPredictor, tmp_path: Path
) -> None:
    from PIL import Image

    (tmp_path / "street").mkdir()
    for number, frame in enumerate(numbered(3)):
        Image.fromarray(frame).save(tmp_path / f"street/view_{5 * number + 5}.jpg")
    out = tmp_path / "out"
    for point in ([30, 20], [40, 30]):  # the second time all begins anew
        with open_frames(tmp_path / "street") as frames:
            follow_into(predictor, frames, out, Prompt(0, 1, [point], [1]))
        named = sorted(path.name for path in (out / "Annotations/street").iterdir())
        assert named == ["view_10.png", "view_15.png", "view_5.png"]


def test_a_prompt_that_fails_leaves_what_was_done_before(
    predictor: VideoPredictor, clip: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    follow_into(predictor, clip, out, Prompt(0, 1, [[30, 20]], [1]))
    before = files(out)
    with pytest.raises(PromptError, match="labels are one a point"):
        follow_into(predictor, clip, out, Prompt(0, 1, [[30, 20]], [2]))

    def damaged(index: int) -> UInt8Array:
        raise ImageError(f"frame {index} is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(clip, "_read", damaged)
        with pytest.raises(ImageError, match="is damaged"):
            follow_into(predictor, clip, out, Prompt(2, 1, [[30, 20]], [1]))
    assert files(out) == before


def test_nothing_of_other_prompts_stays_where_all_begins_anew(
    predictor: VideoPredictor, clip: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    follow_into(predictor, clip, out, Prompt(0, 1, [[30, 20]], [1]))
    (out / "overlay.mp4").write_bytes(b"drawn of the first prompts")
    seen = []
    add = Recording.add

    def noted(self: Recording, frame: int, *given: object) -> None:
        seen.append({path.name for path in out.iterdir()})
        add(self, frame, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Recording, "add", noted)
    follow_into(predictor, clip, out, Prompt(1, 1, [[40, 30]], [1]))
    assert not {"overlay.mp4", "annotations.json"} & seen[0]
    assert json.loads((out / "annotations.json").read_text())["info"]["prompts"][0]["frame"] == 1
    assert sorted(p.stem for p in (out / "Annotations/clip").iterdir()) == [
        f"{i:05d}" for i in (1, 2, 3)
    ]
