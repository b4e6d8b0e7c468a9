"""Videos that are damaged or hostile, and what happens while they are tracked."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from samtrt.errors import ImageError
from samtrt.server.metrics import Metrics
from samtrt.server.settings import Settings
from samtrt.server.video import decoding
from samtrt.server.video.frames import RemoteFrames
from support.moving_objects import video_manifest
from support.server_cases import Served, live, wait_for
from support.videos import moving_picture, numbered, write_video

Serve = Callable[..., Served]
COUNT = 12
BOX = [8, 12, 24, 36]


def send(served: Served, content: bytes) -> Any:
    return served.client.post("/v1/videos", content=content)


def begun(served: Served, content: bytes) -> str:
    """Open a video and point at an object on its first frame."""
    answer = send(served, content)
    assert answer.status_code == 201, answer.text
    video = str(answer.json()["id"])
    said = {"frame": 0, "object": 1, "box": BOX}
    assert served.client.post(f"/v1/videos/{video}/prompts", json=said).status_code == 200
    return video


def events(text: str) -> list[tuple[str, Any]]:
    lines = [line for line in text.splitlines() if line.startswith(("event: ", "data: "))]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(name.removeprefix("event: "), json.loads(data[6:])) for name, data in pairs]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        bytes(range(256)) * 64,
    ],
)
def test_what_is_no_video(serve_video: Serve, content: bytes, tmp_path: Path) -> None:
    served = serve_video()
    answer = send(served, content)
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert "\n" not in message
    assert str(tmp_path) not in message
    assert not any(path.stat().st_size for path in (tmp_path / "spill").rglob("*.*/*"))


def test_other_kinds_of_bodies(serve_video: Serve) -> None:
    served = serve_video()
    kinds = {"text/plain": 415, "image/png": 415, "multipart/form-data; boundary=x": 415}
    for kind, status in kinds.items():
        headers = {"Content-Type": kind}
        assert served.client.post("/v1/videos", content=b"x", headers=headers).status_code == status


def test_a_video_that_is_cut_off(serve_video: Serve, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", moving_picture(COUNT, (96, 160)))
    served = serve_video()
    answer = send(served, path.read_bytes()[: path.stat().st_size * 2 // 3]).json()
    assert 0 < answer["frames"] < COUNT
    assert "cut off" in answer["notices"][0]


def test_a_varying_rate(serve_video: Serve, tmp_path: Path) -> None:
    shown = [Fraction(i * i, 100) for i in range(6)]
    path = write_video(tmp_path / "slow.mp4", numbered(6), times=shown)
    answer = send(serve_video(), path.read_bytes()).json()
    assert answer["times"] == pytest.approx([*map(float, shown)], abs=1e-3)


def damaged(path: Path, frame: int) -> bytes:
    """Return a video of pictures of which one is no picture any more."""
    write_video(path, numbered(COUNT), codec="mjpeg")
    content = bytearray(path.read_bytes())
    starts = [i for i in range(len(content)) if content[i : i + 3] == b"\xff\xd8\xff"]
    content[starts[frame] : starts[frame + 1] - 1] = bytes(starts[frame + 1] - 1 - starts[frame])
    return bytes(content)


def test_a_frame_that_does_not_decode(serve_video: Serve, tmp_path: Path) -> None:
    served = serve_video()
    video = begun(served, damaged(tmp_path / "clip.mp4", 5))
    answer = served.client.post(f"/v1/videos/{video}/track")
    *found, (name, failed) = events(answer.text)
    assert [frame["frame"] for _, frame in found] == [0, 1, 2, 3, 4]
    assert (name, failed["frames"], failed["error"]["code"]) == ("error", 5, "invalid")
    assert "the video: frame 5 " in failed["error"]["message"]
    assert str(tmp_path) not in failed["error"]["message"]
    # What was found is there, and all goes on behind it.
    assert len(served.client.get(f"/v1/videos/{video}/masks").json()["frames"]) == 5
    rest = events(served.client.post(f"/v1/videos/{video}/track", json={"start": 6}).text)
    assert [frame["frame"] for _, frame in rest[:-1]] == list(range(6, COUNT))
    assert rest[-1][0] == "done"
    assert served.client.get(f"/v1/videos/{video}/frames/5").status_code == 422
    on = {"frame": 5, "object": 7, "box": BOX}
    assert served.client.post(f"/v1/videos/{video}/prompts", json=on).status_code == 422
    assert served.client.get(f"/v1/videos/{video}").json()["objects"] == [1]


def test_what_is_remembered_has_a_limit(serve_video: Serve, tmp_path: Path) -> None:
    served = serve_video(video_bytes=100_000)
    content = write_video(tmp_path / "clip.mp4", numbered(31) * 2).read_bytes()
    video = begun(served, content)
    assert events(served.client.post(f"/v1/videos/{video}/track").text)[-1][0] == "done"
    (session,) = served.app.state.videos._open.values()
    (one,) = session._state.tracks.values()
    assert [*one.prompted] == [0]
    assert len(one.others) < 40
    assert min(one.others) > 20
    # All masks are there, and a correction far from what is remembered begins anew from there.
    found = served.client.get(f"/v1/videos/{video}").json()["found"]
    assert found == [[0, 61]]
    said = {"frame": 10, "object": 1, "box": [30, 12, 50, 36]}
    assert served.client.post(f"/v1/videos/{video}/prompts", json=said).status_code == 200
    rest = events(
        served.client.post(f"/v1/videos/{video}/track", json={"start": 10, "frames": 3}).text
    )
    assert [frame["masks"][0]["bbox"][0] for _, frame in rest[:-1]] == [30, 31, 32]


def test_masks_have_a_limit(serve_video: Serve, clip: Path) -> None:
    served = serve_video(video_bytes=5_000)
    video = begun(served, clip.read_bytes())
    *found, (name, failed) = events(served.client.post(f"/v1/videos/{video}/track").text)
    assert (name, failed["error"]["code"]) == ("error", "too_large")
    assert 3 < len(found) < COUNT
    kept = served.client.get(f"/v1/videos/{video}/masks").json()["frames"]
    assert kept == [frame for _, frame in found]


def test_an_engine_that_fails(serve_video: Serve, clip: Path) -> None:
    served = serve_video()
    video = begun(served, clip.read_bytes())
    served.video.fails = lambda calls: calls == 4
    answer = served.client.post(f"/v1/videos/{video}/track").text
    name, failed = events(answer)[-1]
    assert (name, failed["error"]["code"], failed["frames"]) == ("error", "internal", 3)
    assert "secret" not in answer
    again = events(served.client.post(f"/v1/videos/{video}/track", json={"start": 3}).text)
    assert again[-1] == ("done", {"frames": COUNT - 3, "reason": "end"})


def test_a_full_disk(serve_video: Serve, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve_video()
    video = begun(served, clip.read_bytes())
    real = Path.open

    class Full:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *a, **k: Full(real(path, *a, **k)) if "xb" in a else real(path, *a, **k),
    )
    answer = send(served, clip.read_bytes())
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    # What was open goes on.
    done = events(served.client.post(f"/v1/videos/{video}/track").text)[-1]
    assert done == ("done", {"frames": COUNT, "reason": "end"})
    monkeypatch.undo()
    assert send(served, clip.read_bytes()).status_code == 201


@pytest.fixture
def url() -> Iterator[tuple[Served, str]]:
    served = Served(video_manifest(), Settings(readers=1, heartbeat_seconds=0.05))
    with live(served.app) as url:
        served.client = httpx.Client(base_url=url, timeout=60)  # type: ignore[assignment]
        yield served, url
        served.video.open.set()


class Watching:
    """A client that reads events in a thread."""

    def __init__(self, served: Served, video: str) -> None:
        self.lines: list[str] = []
        self._served, self._video = served, video
        self.leave = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        path = f"/v1/videos/{self._video}/track"
        with self._served.client.stream("POST", path) as answer:
            for line in answer.iter_lines():
                self.lines.append(line)
                if self.leave.is_set():
                    return

    def count(self, name: str) -> int:
        return self.lines.count(f"event: {name}")

    def end(self) -> list[tuple[str, Any]]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return events("\n".join(self.lines))


def test_a_client_that_leaves(url: tuple[Served, str], clip: Path) -> None:
    served, _ = url
    video = begun(served, clip.read_bytes())
    served.video.open.clear()
    watching = Watching(served, video)
    # The first frame is the user's; the second waits. Signs of life come meanwhile.
    wait_for(lambda: watching.count("masks") == 1 and ": still at work" in watching.lines)
    busy = served.client.post(f"/v1/videos/{video}/track")
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "tracking")
    said = {"frame": 3, "object": 1, "box": BOX}
    assert served.client.post(f"/v1/videos/{video}/prompts", json=said).status_code == 409
    watching.leave.set()
    wait_for(lambda: not watching._thread.is_alive())
    served.video.open.set()
    wait_for(lambda: not served.client.get(f"/v1/videos/{video}").json()["tracking"])
    found = served.client.get(f"/v1/videos/{video}").json()["found"]
    assert found[0][0] == 0
    assert found[0][1] < COUNT - 1
    assert served.client.post(f"/v1/videos/{video}/prompts", json=said).status_code == 200
    rest = events(served.client.post(f"/v1/videos/{video}/track", json={"start": 1}).text)
    assert rest[-1] == ("done", {"frames": COUNT - 1, "reason": "end"})


def test_tracking_that_is_stopped(url: tuple[Served, str], clip: Path) -> None:
    served, _ = url
    video = begun(served, clip.read_bytes())
    assert served.client.delete(f"/v1/videos/{video}/track").status_code == 204
    served.video.open.clear()
    watching = Watching(served, video)
    wait_for(lambda: watching.count("masks") == 1)
    threading.Timer(0.1, served.video.open.set).start()
    assert served.client.delete(f"/v1/videos/{video}/track").status_code == 204
    # It has ended: what was refused before is not any more.
    said = {"frame": 3, "object": 1, "box": BOX}
    assert served.client.post(f"/v1/videos/{video}/prompts", json=said).status_code == 200
    *found, (name, done) = watching.end()
    assert (name, done) == ("done", {"frames": len(found), "reason": "stopped"})
    assert len(found) < COUNT


def test_tracking_that_is_stopped_before_its_first_frame(
    url: tuple[Served, str], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, _ = url
    video = begun(served, clip.read_bytes())
    remembering, stopped = threading.Event(), threading.Event()
    remember = served.video.remember

    def slowly(*args: Any) -> None:
        remembering.set()
        assert stopped.wait(30)
        remember(*args)

    monkeypatch.setattr(served.video, "remember", slowly)
    watching = Watching(served, video)
    assert remembering.wait(30)
    assert served.client.delete(f"/v1/videos/{video}/track").status_code == 204
    stopped.set()
    assert watching.end() == [("done", {"frames": 0, "reason": "stopped"})]


def test_a_server_that_stops(url: tuple[Served, str], clip: Path) -> None:
    served, _ = url
    video = begun(served, clip.read_bytes())
    served.video.open.clear()
    watching = Watching(served, video)
    wait_for(lambda: watching.count("masks") == 1)
    served.app.state.videos.stop_all()
    served.video.open.set()
    assert watching.end()[-1] == ("done", {"frames": 2, "reason": "stopped"})


def test_an_object_that_is_removed_while_it_is_tracked(url: tuple[Served, str], clip: Path) -> None:
    served, _ = url
    video = begun(served, clip.read_bytes())
    said = {"frame": 0, "object": 2, "box": [30, 4, 40, 14]}
    served.client.post(f"/v1/videos/{video}/prompts", json=said)
    gate = threading.Semaphore(0)
    find = served.video.find

    def held_up(*given: Any) -> Any:
        gate.acquire(timeout=30)
        return find(*given)

    served.video.find = held_up  # type: ignore[method-assign]
    watching = Watching(served, video)
    gate.release()
    wait_for(lambda: watching.count("masks") == 2)
    left: list[Any] = []
    remover = threading.Thread(
        target=lambda: left.append(served.client.delete(f"/v1/videos/{video}/objects/1").json())
    )
    remover.start()
    for _ in range(COUNT):
        gate.release()
    *found, (name, done) = watching.end()
    remover.join(30)
    assert left == [{"objects": [2]}]
    assert (name, done) == ("done", {"frames": COUNT, "reason": "end"})
    ids = [[one["object"] for one in frame["masks"]] for _, frame in found]
    assert ids[:2] == [[1, 2]] * 2
    assert ids[-1] == [2]
    served.video.find = find  # type: ignore[method-assign]


def test_the_last_object_that_is_removed_ends_it(url: tuple[Served, str], clip: Path) -> None:
    served, _ = url
    video = begun(served, clip.read_bytes())
    served.video.open.clear()
    watching = Watching(served, video)
    wait_for(lambda: watching.count("masks") == 1)
    remover = threading.Thread(target=lambda: served.client.delete(f"/v1/videos/{video}/objects/1"))
    remover.start()
    served.video.open.set()
    name, done = watching.end()[-1]
    remover.join(30)
    assert (name, done["reason"]) in [("done", "no_objects")]
    assert served.client.get(f"/v1/videos/{video}/masks").json()["frames"] == []


def test_a_video_that_is_deleted_while_it_is_tracked(url: tuple[Served, str], clip: Path) -> None:
    served, _ = url
    video = begun(served, clip.read_bytes())
    served.video.open.clear()
    watching = Watching(served, video)
    wait_for(lambda: watching.count("masks") == 1)
    assert served.client.delete(f"/v1/videos/{video}").status_code == 204
    served.video.open.set()
    name, failed = watching.end()[-1]
    assert (name, failed["error"]["code"]) in [("error", "video_unknown"), ("error", "invalid")]
    assert begun(served, clip.read_bytes()) != video


def test_answers_that_go_on_longer_than_others_may(clip: Path) -> None:
    settings = Settings(readers=1, heartbeat_seconds=0.1, answer_seconds=0.5)
    served = Served(video_manifest(), settings)
    with live(served.app, settings) as address:
        served.client = httpx.Client(base_url=address, timeout=60)  # type: ignore[assignment]
        video = begun(served, clip.read_bytes())
        served.video.open.clear()
        watching = Watching(served, video)
        wait_for(lambda: watching.lines.count(": still at work") > 20)
        served.video.open.set()
        assert watching.end()[-1] == ("done", {"frames": COUNT, "reason": "end"})


def frames_of(path: Path, **settings: Any) -> RemoteFrames:
    return RemoteFrames(path, Settings(**settings), Metrics())


def test_a_process_that_is_killed_costs_one_frame(clip: Path) -> None:
    frames = frames_of(clip)
    with frames:
        assert frames.facts.height == 48
        first = frames[0]
        assert frames._reader is not None
        os.kill(frames._reader._pid, signal.SIGKILL)
        with pytest.raises(ImageError, match="frame 6 cannot be decoded"):
            frames[6]
        assert frames[6].mean() > first.mean()
    with pytest.raises(ImageError, match="was closed"):
        frames[3]


def test_a_decoder_that_does_not_end(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with frames_of(clip) as frames:
        frames._seconds = 0.2
        monkeypatch.setattr("samtrt.server.video.frames.read_frame", _never)
        with pytest.raises(ImageError, match="frame 6 did not decode within"):
            frames[6]
        monkeypatch.undo()
        frames._seconds = 20
        assert frames[6].shape == (48, 64, 3)


def _never(*_: object) -> None:
    time.sleep(600)


def test_a_decoder_that_takes_too_much(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with frames_of(clip) as frames:
        monkeypatch.setattr("samtrt.server.video.frames.read_frame", _greedy)
        with pytest.raises(ImageError, match="more memory to decode"):
            frames[6]


def _greedy(*_: object) -> int:
    return len(bytearray(decoding.allowance_of(48 * 64) * 2))
