"""Frames of files and folders: their number, order, size and turn, and what is wrong with files."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from samtrt.errors import ImageError
from samtrt.images import ReadOptions
from samtrt.video.camera import Camera, is_live
from samtrt.video.folder import FOLDER_RATE
from samtrt.video.frames import open_frames
from support.videos import moving_picture, numbered, write_video

COUNT = 30


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame[:, :, 0].mean()) / 8) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames that are told apart by their colour, with frames that depend on later ones."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", numbered(COUNT))


def test_frames_come_by_number_whatever_was_read_before(video: Path) -> None:
    with open_frames(video) as frames:
        assert len(frames) == COUNT
        assert frames[0].shape == (48, 64, 3)
        order = [0, 1, 2, 7, 6, 29, 13, 12, 14, 0, -1]
        assert numbers([frames[i] for i in order]) == [i % COUNT for i in order]
        assert numbers(list(frames[3:5])) == [3, 4]
        assert frames.times[5] == Fraction(5, 25)
        assert frames.name == "clip"
        with pytest.raises(IndexError):
            frames[COUNT]


def test_frames_of_a_varying_rate(tmp_path: Path) -> None:
    shown = [Fraction(i * i, 100) for i in range(8)]
    video = write_video(tmp_path / "slow.mp4", numbered(8), times=shown)
    with open_frames(video) as frames:
        assert numbers(list(frames)) == list(range(8))
        assert [*frames.times] == pytest.approx([*map(float, shown)], abs=1e-3)


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_a_turned_video_comes_upright(tmp_path: Path, turn: int) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255
    video = write_video(tmp_path / "turned.mp4", [picture] * 2, turn=turn)
    with open_frames(video) as frames:
        expected = np.rot90(picture, turn // 90)
        assert frames[1].shape == expected.shape
        assert np.abs(frames[1].astype(int) - expected).mean() < 20


def test_a_folder_is_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number, frame in enumerate(numbered(12)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    with open_frames(tmp_path) as frames:
        assert numbers(list(frames)) == list(range(12))
        assert frames.times[3] == 3 / FOLDER_RATE
    Image.new("RGB", (10, 10)).save(tmp_path / "12.png")
    with open_frames(tmp_path) as frames, pytest.raises(ImageError, match="frame 12 is 10 x 10"):
        list(frames)


def test_no_name_leads_out_of_a_folder(video: Path, tmp_path: Path) -> None:
    (tmp_path / "...mp4").write_bytes(video.read_bytes())
    with open_frames(tmp_path / "...mp4") as frames:
        assert frames.name == "video"


def test_what_is_no_video_is_told_in_a_line(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no video at"):
        open_frames(tmp_path / "missing.mp4")
    for name, data in (("empty.mp4", b""), ("text.mp4", b"hello" * 100)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match="no video that can be read"):
            open_frames(tmp_path / name)
    cut = tmp_path / "cut.mp4"  # what MP4 ends with says where everything lies
    cut.write_bytes(video.read_bytes()[:-600])
    with pytest.raises(ImageError, match="no video that can be read"):
        open_frames(cut)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageError, match="holds no image"):
        open_frames(tmp_path / "folder")


def test_a_file_that_is_cut_off_has_the_frames_that_are_there(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", numbered(COUNT))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with open_frames(cut) as frames:
        assert 3 < len(frames) < COUNT
        assert "the file is cut off" in frames.notices[0]
        sure = len(frames) - 3  # those after may have depended on one that is gone
        assert numbers(list(frames[:sure])) == list(range(sure))
    with open_frames(whole) as frames:
        assert frames.notices == ()


def test_a_frame_that_does_not_decode_is_named(tmp_path: Path) -> None:
    noise = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(10)]
    video = write_video(tmp_path / "broken.mp4", noise, codec="mjpeg")
    data = bytearray(video.read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[starts[6] : starts[7] - 1] = bytes(starts[7] - 1 - starts[6])
    video.write_bytes(data)
    with open_frames(video) as frames:
        assert len(frames) == 10
        frames[5]
        with pytest.raises(ImageError, match=r"broken.mp4: frame 6 (does not decode|is)"):
            frames[6]
        assert frames[7].shape == (48, 64, 3)


def test_a_pipe_is_followed_as_it_comes(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mkv", numbered(12))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert is_live(str(pipe))
    assert is_live("rtsp://camera/1")
    assert not is_live(str(video))
    writer = threading.Thread(target=lambda: pipe.write_bytes(video.read_bytes()))
    writer.start()
    with Camera(str(pipe)) as camera:
        assert numbers(list(camera)) == list(range(12))
        assert camera.dropped == 0
    writer.join()
    with pytest.raises(ImageError, match="cannot open"):
        Camera("/dev/null")


def test_digits_that_are_no_numbers_sort_as_text(tmp_path: Path) -> None:
    for number, name in enumerate(("1.png", "1²3.png", "10.png")):
        Image.fromarray(numbered(3)[number]).save(tmp_path / name)
    with open_frames(tmp_path) as frames:
        assert sorted(frames.names) == ["1.png", "10.png", "1²3.png"]
        assert frames.names.index("1.png") < frames.names.index("10.png")


def test_an_order_that_a_file_does_not_tell_is_not_guessed(tmp_path: Path) -> None:
    # H.264 whose frames are stored in another order, in a form that counts them as they lie.
    with pytest.raises(ImageError, match="does not say when its frames are shown"):
        open_frames(write_video(tmp_path / "clip.avi", numbered(12)))
    with open_frames(write_video(tmp_path / "plain.avi", numbered(12), "mjpeg")) as frames:
        assert numbers(list(frames)) == list(range(12))


def test_what_is_cut_away_or_begins_late_is_not_cut_off(tmp_path: Path) -> None:
    early = [Fraction(i - 10, 25) for i in range(COUNT)]
    with open_frames(write_video(tmp_path / "cut.mp4", numbered(COUNT), times=early)) as frames:
        assert numbers(list(frames)) == list(range(10, COUNT))
        assert frames.notices == ()
    late = [Fraction(i, 25) + 40 for i in range(COUNT)]
    with open_frames(write_video(tmp_path / "late.mkv", numbered(COUNT), times=late)) as frames:
        assert len(frames) == COUNT
        assert frames.notices == ()


def test_pictures_of_more_than_8_bits_are_told_once_and_have_a_range(tmp_path: Path) -> None:
    for number in range(3):
        values = np.full((48, 64), 1000 * (number + 1), np.uint16)
        values[0] = 4095
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    told: list[str] = []
    with open_frames(tmp_path, tell=told.append) as frames:
        assert len(list(frames)) == 3
    assert len(told) == 1
    assert "0.png: its uint16 values 1000 to 4095" in told[0]
    with open_frames(tmp_path, ReadOptions(value_range=(0, 4095)), told.append) as ranged:
        shown = [int(frame[1, 0, 0]) for frame in ranged]
        assert ranged.identity != frames.identity
    assert shown == [62, 125, 187]
    assert len(told) == 1


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=44100)
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 4410), np.float32), format="fltp", layout="mono"
        )
        picture.pts = silence.pts = 0
        silence.sample_rate = 44100
        for stream, frame in ((cover, picture), (sound, silence)):
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    with pytest.raises(ImageError, match="has no video in it"):
        open_frames(tmp_path / "song.mp4")


@pytest.mark.parametrize("backward", [False, True])
def test_what_depends_on_a_damaged_frame_is_damaged(tmp_path: Path, backward: bool) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_picture(24, (96, 160)))
    with open_frames(path) as frames:
        whole = list(frames)
    with av.open(str(path)) as container:
        packets = [one for one in container.demux(video=0) if one.size and one.is_keyframe]
        place, size = packets[1].pos, packets[1].size
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).bytes(size - 4 - size // 3)
    content[place + size // 3 : place + size - 4] = noise
    path.write_bytes(content)
    refused = []
    with open_frames(path) as frames:
        for number in reversed(range(24)) if backward else range(24):
            try:
                assert np.abs(frames[number].astype(int) - whole[number]).mean() < 1, number
            except ImageError:
                refused.append(number)
    assert {12, 13, 23} <= {*refused}
    assert min(refused) > 8
