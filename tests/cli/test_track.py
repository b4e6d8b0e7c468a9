"""`samtrt track`: results, a run that goes on where it was, and what is wrong with videos."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from samtrt.errors import ImageError, OutputError
from samtrt.masks.logits import mask_iou
from samtrt.video.frames import FileFrames, open_frames
from samtrt.video.predictor import VideoPredictor
from samtrt.video.recording import Recording
from support.command_line import Run
from support.fake_video import fake_engines
from support.moving_objects import video_manifest
from support.videos import moving_picture, write_video

FRAMES, SIZE = 7, (96, 160)
POINT, BOX = "100,40", "20,30,90,80"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", moving_picture(FRAMES, SIZE))


def segmentations(out: Path) -> list[list[np.ndarray | None]]:
    """Decode annotations.json by COCO's own code: a list of frames an object."""
    document = json.loads((out / "annotations.json").read_text())
    (described,) = document["videos"]
    assert (described["height"], described["width"], described["length"]) == (*SIZE, FRAMES)
    found = []
    for one in document["annotations"]:
        masks = [
            None if rle is None else np.array(coco.decode([rle])[:, :, 0], bool)
            for rle in one["segmentations"]
        ]
        for mask, box, area in zip(masks, one["bboxes"], one["areas"], strict=True):
            assert (mask is None) == (box is None) == (area is None)
            if mask is not None:
                assert mask.sum() == area
                assert coco.toBbox(coco.encode(np.asfortranarray(mask, np.uint8))).tolist() == box
        found.append(masks)
    return found


def labels(out: Path) -> dict[int, np.ndarray]:
    return {int(p.stem): np.array(Image.open(p)) for p in (out / "Annotations/clip").iterdir()}


def test_objects_are_followed(run: Run, sam2_model: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("track", sam2_model, video, "--box", BOX, "--box", "60,10,150,60", "-o", out)
    assert done.code == 0, done
    assert "7 frames, 2 objects in" in done.out
    found = segmentations(out)
    with open_frames(video) as frames, VideoPredictor.load(sam2_model) as predictor:
        state = predictor.init_state(frames)
        for i, box in enumerate(([20, 30, 90, 80], [60, 10, 150, 60]), start=1):
            predictor.add_new_points_or_box(state, 0, i, box=box)
        pictures = labels(out)
        for number, _, logits in predictor.propagate_in_video(state):
            for masks, expected in zip(found, logits[:, 0] > 0, strict=True):
                mask = masks[number]
                np.testing.assert_array_equal(expected.any() if mask is None else mask, expected)
            inside = (logits[:, 0] > 0).any(axis=0)
            np.testing.assert_array_equal(pictures[number] > 0, inside)
            assert set(np.unique(pictures[number])) <= {0, 1, 2}
    with av.open(str(out / "overlay.mp4")) as container:
        drawn = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(drawn) == FRAMES
    assert drawn[0].shape == (*SIZE, 3)
    assert any(mask is not None for masks in found for mask in masks)


@pytest.mark.parametrize("name", ["sam2.1_hiera_t", "edgetam_t"])
def test_a_run_goes_on_where_it_was(
    run: Run,
    name: str,
    family_model: Callable[[str], Path],
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    asked = ["track", family_model(name), video, "-p", POINT, "--frame", 3, "--direction", "both"]
    assert run(*asked, "-o", whole, "--no-overlay").code == 0
    add = Recording.add
    full = 4

    def fails(self: Recording, *given: object) -> None:
        if self.steps == full:
            raise OutputError("no space left on device")
        add(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Recording, "add", fails)
        stopped = run(*asked, "-o", out)
        assert (stopped.code, stopped.err.count("\n")) == (2, 1)
    assert len(labels(out)) == full
    assert (out / "tracks.safetensors").exists()
    again = run(*asked, "-o", out)
    assert "3 frames, 1 objects in" in again.out
    assert f"{full} frames done before" in again.out
    assert not (out / "tracks.safetensors").exists()
    assert (out / "annotations.json").read_bytes() == (whole / "annotations.json").read_bytes()
    (out / "annotations.json").unlink()
    third = run(*asked, "-o", out)
    assert (out / "annotations.json").read_bytes() == (whole / "annotations.json").read_bytes()
    assert f"{FRAMES} frames done before" in third.out
    # Other prompts: all is done anew.
    other = run(*asked[:4], "90,50", *asked[5:], "-o", out, "--no-overlay")
    assert f"{FRAMES} frames, 1 objects" in other.out
    assert "before" not in other.out


def test_prompts_of_several_objects_and_frames(
    run: Run, sam2_model: Path, video: Path, tmp_path: Path
) -> None:
    ids = np.zeros(SIZE, np.uint8)
    ids[30:60, 20:60], ids[10:30, 90:130] = 1, 2
    Image.fromarray(ids).save(tmp_path / "ids.png")
    masks = run(
        *("track", sam2_model, video, "--mask", tmp_path / "ids.png", "-o", tmp_path / "masks"),
        *("--frames", 2, "--no-overlay"),
    )
    assert "3 frames, 2 objects" in masks.out, masks
    assert mask_iou(labels(tmp_path / "masks")[0] > 0, ids > 0) > 0.98
    prompts = tmp_path / "prompts.json"
    prompts.write_text(
        json.dumps(
            [
                {"frame": 1, "object": 4, "points": [[100, 40], [5, 5]], "labels": [1, 0]},
                {"frame": 5, "object": 4, "box": [20, 20, 90, 80]},
                {"frame": 2, "object": 9, "points": [[40, 50]]},
            ]
        )
    )
    asked = ("track", sam2_model, video, "--prompts", prompts, "-o", tmp_path / "several")
    assert "6 frames, 2 objects" in run(*asked, "--no-overlay").out
    document = json.loads((tmp_path / "several/annotations.json").read_text())
    assert [one["object"] for one in document["annotations"]] == [4, 9]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([], "no object is pointed at: give --point"),
        (["-p", "500,40"], "(500, 40) lies outside of the video, 160 x 96"),
        (["-p", "1"], "--point takes x,y"),
        (["-p", POINT, "--frame", "7"], "there is no frame 7: the video has 0..6"),
        (["--prompts", "nowhere.json"], "cannot read prompts from nowhere.json"),
        (["--mask", "nowhere.png"], "there is no picture at nowhere.png"),
        (["--mask", "nowhere.png", "-p", POINT], "--mask says what is there"),
    ],
)
def test_what_cannot_be_meant_is_told(
    run: Run, sam2_model: Path, video: Path, tmp_path: Path, asked: list[str], says: str
) -> None:
    done = run("track", sam2_model, video, *asked, "-o", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert says in done.err
    assert not (tmp_path / "out").exists()


def test_videos_that_cannot_be_read_are_told(run: Run, sam2_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for video in (broken, tmp_path / "missing.mp4", "rtsp://127.0.0.1:9/none"):
        done = run("track", sam2_model, video, "-p", POINT, "-o", tmp_path / "out")
        assert (done.code, done.err.count("\n")) == (2, 1), done
    assert not (tmp_path / "out").exists()


def test_what_was_done_before_a_damaged_frame_is_kept(
    run: Run, sam2_model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FileFrames._read

    def damaged(self: FileFrames, index: int) -> np.ndarray:
        if index == 4:
            raise ImageError(f"{self.path}: frame 4 is damaged")
        return read(self, index)

    monkeypatch.setattr(FileFrames, "_read", damaged)
    out = tmp_path / "out"
    done = run("track", sam2_model, video, "-p", POINT, "-o", out)
    assert done.code == 2
    assert "frame 4 is damaged" in done.err
    assert sorted(labels(out)) == [0, 1, 2, 3]
    with av.open(str(out / "overlay.mp4")) as container:
        assert len([*container.decode(video=0)]) == 4


def test_results_of_others_are_not_replaced(
    run: Run, sam2_model: Path, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "annotations.json").write_text("mine")
    done = run("track", sam2_model, video, "-p", POINT, "-o", tmp_path)
    assert done.code == 2
    assert "was not written by samtrt" in done.err
    assert (tmp_path / "annotations.json").read_text() == "mine"


def test_a_pipe_is_followed(run: Run, sam2_model: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mkv", moving_picture(4, SIZE))
    pipe, out = tmp_path / "camera", tmp_path / "out"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    writer.start()
    done = run("track", sam2_model, pipe, "-p", POINT, "--frame", 1, "-o", out)
    writer.join()
    assert done.code == 0, done
    assert "4 frames, 1 objects" in done.out
    document = json.loads((out / "annotations.json").read_text())
    assert document["annotations"][0]["segmentations"][0] is None
    with av.open(str(out / "overlay.mp4")) as container:
        assert len([*container.decode(video=0)]) == 4


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model without weights in the place of any that is named."""

    def load(*_: object) -> VideoPredictor:
        return VideoPredictor(fake_engines(video_manifest()))

    monkeypatch.setattr(VideoPredictor, "load", load)
    return tmp_path


def through_a_pipe(source: Path, pipe: Path) -> threading.Thread:
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    writer.start()
    return writer


def test_what_came_before_a_camera_failed_is_drawn_too(run: Run, light: Path) -> None:
    # Another size in the middle, as where a camera is turned.
    large, small = (
        write_video(light / name, [np.full((*size, 3), 90, np.uint8)] * 30)
        for name, size in (("a.ts", SIZE), ("b.ts", (60, 80)))
    )
    both, out = light / "both.ts", light / "out"
    both.write_bytes(large.read_bytes() + small.read_bytes())
    writer = through_a_pipe(both, light / "camera")
    done = run("track", light, light / "camera", "-p", POINT, "-o", out)
    writer.join()
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert "the frame is 80 x 60 and those before were 160 x 96" in done.err
    pictures = len([*(out / "Annotations/camera").iterdir()])
    assert pictures > 20
    with av.open(str(out / "overlay.mp4")) as container:
        assert len([*container.decode(video=0)]) == pictures


@pytest.mark.parametrize("asked", [["-p", "100,400"], ["--box", "9,9,2,2"], []])
def test_what_a_camera_gave_before_stays_where_prompts_make_no_sense(
    run: Run, light: Path, asked: list[str]
) -> None:
    (light / "out/Annotations/camera").mkdir(parents=True)
    kept = [light / "out" / one for one in ("Annotations/camera/00000.png", "annotations.json")]
    for path in (*kept, light / "out/.samtrt"):
        path.write_text("of an earlier run")
    source = write_video(light / "clip.mkv", moving_picture(4, SIZE))
    writer = through_a_pipe(source, light / "camera")
    done = run("track", light, light / "camera", *asked, "-o", light / "out")
    writer.join()
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert all(path.read_text() == "of an earlier run" for path in kept)


def test_labels_are_not_rounded(run: Run, light: Path, video: Path) -> None:
    done = run("track", light, video, "-p", "100,40,0.5", "-o", light / "out")
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert "labels are one a point" in done.err
    assert not (light / "out").exists()


def test_objects_that_have_no_id_are_told(run: Run, light: Path, video: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(light / "none.png")
    many = [part for i in range(256) for part in ("--box", f"1,1,{i + 2},50")]
    for asked, says in (
        (["--mask", light / "none.png"], "none.png holds no object: all its pixels are 0"),
        (many, "256 boxes are more than the 255 ids of a picture"),
    ):
        done = run("track", light, video, *asked, "-o", light / "out")
        assert (done.code, done.err.count("\n")) == (2, 1), done
        assert says in done.err
    assert not (light / "out").exists()


def test_a_range_of_values_is_of_folders(run: Run, light: Path, video: Path) -> None:
    (light / "frames").mkdir()
    for number in range(2):
        values = np.full(SIZE, 900 + number, np.uint16)
        values[0] = 4095
        Image.fromarray(values).save(light / f"frames/{number}.png")
    asked = ("track", light, light / "frames", "-p", POINT, "-o", light / "out", "--no-overlay")
    assert run(*asked).err.count("--value-range LOW:HIGH") == 1
    ranged = run(*asked, "--value-range", "0:4095")
    assert (ranged.code, ranged.err) == (0, "")
    assert "before" not in ranged.out  # what others found is not taken up
    done = run("track", light, video, "-p", POINT, "-o", light / "o", "--value-range", "0:9")
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert "is no folder of pictures: leave out --value-range" in done.err
