"""The client's videos against a real server over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from samtrt import Client
from samtrt.errors import ImageError, PromptError, RemoteError
from samtrt.server.settings import Settings
from support.moving_objects import video_manifest
from support.server_cases import Served, live

TOKEN = "token-of-the-client-test"
COUNT, SIZE = 12, (48, 64)
BOX = [8, 12, 24, 36]


@pytest.fixture
def served(clip: Path) -> Served:
    settings = Settings(token=TOKEN, readers=1, videos_dir=clip.parent)
    return Served(video_manifest(), settings)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with live(served.app) as url, Client(url, TOKEN, retries=0) as client:
        yield client


def test_objects_are_followed_as_here(client: Client, served: Served, clip: Path) -> None:
    from samtrt.video.frames import open_frames
    from samtrt.video.predictor import VideoPredictor

    assert client.videos() == [clip.name]
    with (
        open_frames(clip) as frames,
        client.open_video(clip) as video,
        VideoPredictor(served.video, 0, add_all_frames_to_correct_as_cond=True) as local,
    ):
        assert (len(video), video.size, video.notices) == (COUNT, SIZE, [])
        assert video.frame(3).startswith(b"\xff\xd8\xff")
        state = local.init_state(frames)
        mask = np.zeros(SIZE, bool)
        mask[5:20, 30:50] = True
        for ask in (
            lambda one: one.add_new_points_or_box(2, 1, [[20, 20]], [1]),
            lambda one: one.add_new_points_or_box(np.int64(2), np.int64(5), box=BOX),
            lambda one: one.add_new_mask(2, 9, mask),
            lambda one: one.propagate_in_video(),
            lambda one: one.add_new_points_or_box(6, 1, [[30, 30], [1, 1]], [1, 0]),
            lambda one: one.propagate_in_video(6, 3),
            lambda one: one.propagate_in_video(6, 2, reverse=True),
        ):
            got, expected = ask(video), ask(Bound(local, state))
            pairs = [(got, expected)] if isinstance(got, tuple) else zip(got, expected, strict=True)
            for mine, theirs in pairs:
                assert mine[:2] == theirs[:2]
                np.testing.assert_array_equal(mine[2], theirs[2][:, 0] > 0)
        assert [frame for frame, *_ in video.masks()] == list(range(2, COUNT))
        assert video.clear_all_prompts_in_frame(6, 1)[:2] == (6, [1, 5, 9])
        assert video.remove_object(5) == [1, 9]
    with pytest.raises(RemoteError, match="no video has this id"):
        next(video.masks())
    video.delete()  # no complaint


class Bound:
    """A predictor with its state as first argument."""

    def __init__(self, predictor: Any, state: Any) -> None:
        self._predictor, self._state = predictor, state

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._predictor, name)
        return lambda *given, **named: method(self._state, *given, **named)


def test_a_video_by_name_and_one_who_stops(client: Client, clip: Path) -> None:
    with client.open_video(name=clip.name) as video:
        video.add_new_points_or_box(0, 1, box=BOX)
        for frame, *_ in video.propagate_in_video():
            if frame == 2:
                break
        again = [frame for frame, *_ in video.propagate_in_video(3)]
        assert again == list(range(3, COUNT))


def test_errors_of_videos_are_ours(client: Client, clip: Path) -> None:
    with pytest.raises(ImageError, match="no video that can be read"):
        client.open_video(b"hello")
    with pytest.raises(ImageError, match="cannot read"):
        client.open_video("/nonexistent.mp4")
    with pytest.raises(RemoteError, match="no video of this name"):
        client.open_video(name="nonexistent.mp4")
    with pytest.raises(PromptError, match="give a video"):
        client.open_video()
    with client.open_video(clip.read_bytes()) as video:
        with pytest.raises(PromptError, match="no frame 99"):
            video.add_new_points_or_box(99, 1, box=BOX)
        with pytest.raises(PromptError, match="outside of the video"):
            video.add_new_points_or_box(0, 1, [[500, 5]], [1])
        with pytest.raises(PromptError, match="labels are one a point"):
            video.add_new_points_or_box(0, 1, [[5, 5]], [0.5])
        with pytest.raises(PromptError, match="of logits give logits > 0"):
            video.add_new_mask(0, 1, np.full(SIZE, -2.0))
        with pytest.raises(PromptError, match="an object's id is a whole number, not 'car'"):
            video.add_new_points_or_box(0, "car", [[5, 5]], [1])  # type: ignore[arg-type]
        with pytest.raises(PromptError, match="no object is pointed at"):
            next(video.propagate_in_video())
        with pytest.raises(RemoteError, match="no object 3"):
            video.remove_object(3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "event: masks\ndata: {",
        "event: masks\ndata: {}\n\n",
        'event: masks\ndata: {"frame": 0, "masks": [{"object": 1, "rle": {"size": [1, 1]}}]}\n\n',
        "event: error\ndata: []\n\n",
    ],
)
def test_events_that_are_none(text: str) -> None:
    opened = {"id": "a", "height": 4, "width": 4, "times": [0], "notices": []}

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/track"):
            return httpx.Response(200, text=text)
        return httpx.Response(201, json=opened)

    http = httpx.Client(transport=httpx.MockTransport(respond))
    video = Client("http://other", http=http).open_video(b"video")
    with pytest.raises(RemoteError, match="the server's answer"):
        next(video.propagate_in_video())
