"""Videos over HTTP: opened, pointed at, tracked, corrected, and what is refused."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samtrt.masks import rle
from support.moving_objects import STEP
from support.server_cases import Served
from support.videos import numbered, write_video

Serve = Callable[..., Served]
COUNT, SIZE = 12, (48, 64)
BOX = [8, 12, 24, 36]
MOVED = STEP * SIZE[1] / 256
"""Pixels of the video that objects move in a frame."""


def opened(served: Served, clip: Path) -> str:
    answer = served.client.post("/v1/videos?name=clip.mp4", content=clip.read_bytes())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def point(served: Served, video: str, **said: Any) -> Any:
    return served.client.post(f"/v1/videos/{video}/prompts", json={"frame": 0, "object": 1, **said})


def events(text: str) -> Iterator[tuple[str, Any]]:
    for block in text.split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n")
            yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def track(served: Served, video: str, **asked: Any) -> list[tuple[str, Any]]:
    answer = served.client.post(f"/v1/videos/{video}/track", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [*events(answer.text)]


def masks_of(frame: dict[str, Any]) -> dict[int, np.ndarray]:
    return {one["object"]: rle.decode(one["rle"]) for one in frame["masks"]}


def left_of(mask: np.ndarray) -> int:
    return int(np.nonzero(mask.any(axis=0))[0].min())


def test_opening(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    answer = served.client.post(
        "/v1/videos?name=clip.mp4", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"}
    ).json()
    assert (answer["width"], answer["height"], answer["frames"]) == (64, 48, COUNT)
    assert answer["times"] == pytest.approx([i / 25 for i in range(COUNT)], abs=1e-3)
    assert (answer["name"], answer["objects"], answer["found"]) == ("clip.mp4", [], [])
    limits = served.client.get("/v1/model").json()["video"]
    assert limits["max_frames"] == 20_000
    assert limits["folder"] is False


def test_frames(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = opened(served, clip)
    for frame in (7, 2, 11):
        answer = served.client.get(f"/v1/videos/{video}/frames/{frame}")
        assert answer.headers["content-type"] == "image/jpeg"
        picture = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert picture.shape == (*SIZE, 3)
        assert abs(picture[:, :, 0].mean() - 8 * frame) < 5
    assert served.client.get(f"/v1/videos/{video}/frames/{COUNT}").status_code == 404
    assert served.client.get(f"/v1/videos/{video}/frames/-1").status_code == 422


def test_tracking_forward_backward_and_a_range(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = opened(served, clip)
    said = point(served, video, frame=4, box=BOX).json()
    (mask,) = masks_of(said).values()
    expected = np.zeros(SIZE, bool)
    expected[12:36, 8:24] = True
    assert (mask == expected).mean() > 0.99
    assert said["masks"][0]["bbox"] == pytest.approx([8, 12, 16, 24], abs=1)
    *found, (name, done) = track(served, video)
    assert (name, done) == ("done", {"frames": COUNT - 4, "reason": "end"})
    assert [frame["frame"] for _, frame in found] == list(range(4, COUNT))
    for _, frame in found:
        shift = MOVED * (frame["frame"] - 4)
        assert left_of(masks_of(frame)[1]) == pytest.approx(8 + shift, abs=1)
    *found, _ = track(served, video, direction="backward", frames=3)
    assert [frame["frame"] for _, frame in found] == [4, 3, 2]
    *found, _ = track(served, video, start=6, frames=2)
    assert [frame["frame"] for _, frame in found] == [6, 7]
    described = served.client.get(f"/v1/videos/{video}").json()
    assert described["found"] == [[2, COUNT - 1]]
    assert described["prompts"] == [
        {"frame": 4, "object": 1, "points": [], "box": BOX, "labels": None, "mask": False}
    ]


def test_what_was_found_can_be_fetched_in_parts(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = opened(served, clip)
    point(served, video, box=BOX)
    found = [frame for _, frame in track(served, video)[:-1]]
    part = served.client.get(f"/v1/videos/{video}/masks", params={"first": 2, "frames": 4}).json()
    assert part == {"frames": found[2:6], "next": 6}
    rest = served.client.get(f"/v1/videos/{video}/masks", params={"first": part["next"]}).json()
    assert rest == {"frames": found[6:], "next": None}


def test_correcting_and_tracking_on(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = opened(served, clip)
    point(served, video, points=[[10, 20]])
    point(served, video, object=2, box=[30, 4, 40, 14])
    track(served, video)
    before = served.client.get(f"/v1/videos/{video}/masks").json()["frames"]
    corrected = point(served, video, frame=6, points=[[12, 40], [1, 1]], labels=[1, 0]).json()
    assert [one["object"] for one in corrected["masks"]] == [1, 2]
    assert corrected["masks"][1] == before[6]["masks"][1]
    *found, _ = track(served, video, start=6)
    for (_, frame), old in zip(found, before[6:], strict=True):
        assert frame["masks"][1] == old["masks"][1]
        assert np.nonzero(masks_of(frame)[1].any(axis=1))[0].mean() == pytest.approx(40, abs=2)
    after = served.client.get(f"/v1/videos/{video}/masks").json()["frames"]
    assert after[:6] == before[:6]


def test_a_mask_as_prompt(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = opened(served, clip)
    mask = np.zeros(SIZE, bool)
    mask[10:30, 20:44] = True
    given = rle.compress(rle.encode(mask))
    answer = point(served, video, mask=given)
    assert (masks_of(answer.json())[1] == mask).mean() > 0.97
    wrong = point(served, video, mask={**given, "size": [64, 48]})
    assert (wrong.status_code, "48 x 64" in wrong.text) == (422, True)
    damaged = point(served, video, mask={**given, "counts": "PPPPP"})
    assert damaged.status_code == 422
    both = point(served, video, mask=given, box=BOX)
    assert both.status_code == 422


def test_objects_and_prompts_are_forgotten(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = opened(served, clip)
    point(served, video, box=BOX)
    point(served, video, object=2, box=BOX)
    point(served, video, object=2, frame=5, box=BOX)
    base = f"/v1/videos/{video}"
    track(served, video)
    assert served.client.delete(f"{base}/prompts/5/2").status_code == 200
    assert served.client.delete(f"{base}/prompts/5/2").status_code == 422
    answer = served.client.delete(f"{base}/objects/1")
    assert answer.json() == {"objects": [2]}
    assert served.client.delete(f"{base}/objects/1").status_code == 404
    found = served.client.get(f"{base}/masks").json()["frames"]
    assert {one["object"] for frame in found for one in frame["masks"]} == {2}
    # Without a prompt there is no object.
    assert served.client.delete(f"{base}/prompts/0/2").json() == {"frame": 0, "masks": []}
    described = served.client.get(base).json()
    assert (described["objects"], described["prompts"], described["found"]) == ([], [], [])
    nothing = served.client.post(f"{base}/track")
    assert (nothing.status_code, "no object is pointed at" in nothing.text) == (422, True)
    assert served.client.delete(base).status_code == 204
    assert served.client.get(base).status_code == 404


def test_a_video_of_the_folder_is_named(serve_video: Serve, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "clip.mp4").write_bytes(clip.read_bytes())
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_bytes(clip.read_bytes())
    (folder / os.fsdecode(b"no-utf-8-\xff.mp4")).write_bytes(clip.read_bytes())
    (tmp_path / "outside.mp4").write_bytes(clip.read_bytes())
    (folder / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    served = serve_video(videos_dir=folder)
    assert served.client.get("/v1/videos").json() == {"files": ["below/clip.mp4"]}
    answer = served.client.post("/v1/videos", json={"name": "below/clip.mp4"})
    assert (answer.status_code, answer.json()["name"]) == (201, "clip.mp4")
    assert served.client.delete(f"/v1/videos/{answer.json()['id']}").status_code == 204
    assert (folder / "below" / "clip.mp4").exists()
    for name in (
        "../outside.mp4",
        str(tmp_path / "outside.mp4"),
        "below/../below/clip.mp4",
        "link.mp4",
        ".hidden.mp4",
        "notes.txt",
        "below",
        "",
        "below/clip.mp4\0",
    ):
        refused = served.client.post("/v1/videos", json={"name": name})
        assert refused.status_code == 404, name
        assert str(tmp_path) not in refused.text


def test_without_a_folder_none_can_be_named(serve_video: Serve) -> None:
    served = serve_video()
    assert served.client.get("/v1/videos").json() == {"files": []}
    answer = served.client.post("/v1/videos", json={"name": "clip.mp4"})
    assert (answer.status_code, "--videos" in answer.text) == (404, True)


def test_a_model_without_videos(serve: Serve, clip: Path) -> None:
    served = serve()
    assert served.client.get("/v1/model").json()["video"] is None
    for answer in (
        served.client.post("/v1/videos", content=clip.read_bytes()),
        served.client.get("/v1/videos"),
        served.client.post("/v1/videos/abc/track"),
        served.client.get("/v1/videos/abc/frames/0"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "no_videos"
        assert "exported with --video" in answer.json()["error"]["message"]


SENSELESS: list[tuple[dict[str, Any], str]] = [
    ({"frame": COUNT, "box": BOX}, "0..11"),
    ({"frame": -1, "box": BOX}, "frame"),
    ({"points": [[64.5, 3]]}, "outside of the video"),
    ({"points": [[1, 3]], "labels": [1, 0]}, "one a point"),
    ({"points": [[1, 3]], "labels": [2]}, "labels"),
    ({"points": [[1, 3]], "labels": [True]}, "labels"),
    ({"points": []}, "give points"),
    ({"object": 0, "box": BOX}, "object"),
    ({"object": 256, "box": BOX}, "object"),
    ({"box": [1, 2, 3]}, "box"),
    ({"points": [[1, 1]] * 101}, "the server takes 100"),
    ({"box": BOX, "more": 1}, "more"),
]


def test_prompts_that_make_no_sense(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = opened(served, clip)
    for said, part in SENSELESS:
        answer = point(served, video, **said)
        assert answer.status_code == 422, answer.text
        assert part in answer.json()["error"]["message"]
    assert served.client.get(f"/v1/videos/{video}").json()["objects"] == []


def test_limits(serve_video: Serve, clip: Path, tmp_path: Path) -> None:
    served = serve_video(max_video_bytes=100_000, max_video_frames=COUNT, max_video_objects=2)
    large = served.client.post("/v1/videos", content=b"x" * 100_001)
    assert large.status_code == 413
    in_pieces = served.client.post("/v1/videos", content=iter([b"x" * 60_000] * 2))
    assert in_pieces.status_code == 413
    assert not any(path.stat().st_size for path in (tmp_path / "spill").rglob("*.*/*"))
    long = write_video(tmp_path / "long.mp4", numbered(COUNT + 1))
    answer = served.client.post("/v1/videos", content=long.read_bytes())
    assert (answer.status_code, "limit of 12 frames" in answer.text) == (422, True)
    video = opened(served, clip)
    for number in (1, 2):
        assert point(served, video, object=number, box=BOX).status_code == 200
    assert "2 objects at most" in point(served, video, object=3, box=BOX).text
    pixels = serve_video(max_video_pixels=64 * 48 - 1)
    answer = pixels.client.post("/v1/videos", content=clip.read_bytes())
    assert (answer.status_code, "64 x 48" in answer.text) == (422, True)
    json_ = serve_video(max_json_bytes=100)
    refused = json_.client.post("/v1/videos", json={"name": "x" * 200})
    assert refused.status_code == 413


def test_as_many_videos_as_may_be(serve_video: Serve, clip: Path, tmp_path: Path) -> None:
    served = serve_video(video_slots=1, video_idle_seconds=3600)
    first = opened(served, clip)
    answer = served.client.post("/v1/videos", content=clip.read_bytes())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    served.client.delete(f"/v1/videos/{first}")
    opened(served, clip)
    idle = serve_video(video_slots=1, video_idle_seconds=0, spill_dir=tmp_path / "other")
    first, second = opened(idle, clip), opened(idle, clip)
    assert idle.client.get(f"/v1/videos/{first}").status_code == 410
    assert idle.client.get(f"/v1/videos/{second}").status_code == 200
    assert "samtrt_video_evictions_total 1.0" in idle.client.get("/metrics").text


def test_a_token_is_asked_for(serve_video: Serve, clip: Path) -> None:
    served = serve_video(token="a-token-of-this-test")
    for method, path in (
        ("POST", "/v1/videos"),
        ("GET", "/v1/videos"),
        ("GET", "/v1/videos/a/frames/0"),
        ("POST", "/v1/videos/a/track"),
        ("DELETE", "/v1/videos/a"),
    ):
        assert served.client.request(method, path).status_code == 401
    served.client.headers["Authorization"] = "Bearer a-token-of-this-test"
    opened(served, clip)
