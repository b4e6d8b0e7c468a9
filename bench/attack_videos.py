"""What bench/attack.py does with videos, where the model follows objects."""

from __future__ import annotations

import random
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FRAMES = 60


def clip(frames: int = FRAMES, width: int = 160, height: int = 120) -> bytes:
    """Return a video with a square that moves."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for i in range(frames):
                picture = np.full((height, width, 3), 60, np.uint8)
                picture[20:60, 2 * i % width : 2 * i % width + 40] = 220
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode())
        return path.read_bytes()


def hostile() -> list[bytes]:
    """Return playlists that name other files, damaged videos, one of enormous frames."""
    good, choose = bytearray(clip(12)), random.Random(0)
    found = [
        b"",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///dev/zero\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /dev/zero\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        clip(2, 8192, 4320),
        random.Random(1).randbytes(1 << 20),
    ]
    for _ in range(40):
        bad = bytearray(good)
        for _ in range(8):
            bad[choose.randrange(len(bad))] = choose.randrange(256)
        found.append(bytes(bad[: choose.randrange(len(bad))] if choose.random() < 0.3 else bad))
    return found


def videos(a: Any) -> None:
    """Hostile videos; more than may be open; clients that leave, do not read, and delete."""
    if a.client.get("/v1/model").json()["video"] is None:
        a.ends["not served"] += 1
        return
    for data in hostile():
        if video := _open(a, data):
            _point(a, video)
            _track(a, video)
            a.send("DELETE", f"/v1/videos/{video}")
    good = clip()
    a.at_once(12, lambda _: _life(a, good))  # of which some are told to come back later
    if video := _open(a, good):
        _point(a, video)
        path = f"/v1/videos/{video}/track"
        for one in a.sockets(8):  # they leave at once; one tracks, the others are refused
            one.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
            )
            one.close()
            a.ends["left"] += 1
        a.send("DELETE", path)
        silent = a.sockets(1)[0]  # takes no event
        silent.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
        )
        time.sleep(0.5)
        a.send("DELETE", f"/v1/videos/{video}/objects/1")
        a.send("DELETE", f"/v1/videos/{video}")
        a.send("GET", f"/v1/videos/{video}/masks", "4")
        silent.close()
    for line in a.client.get("/metrics").text.splitlines():
        if line.startswith("samtrt_open_videos ") and not line.endswith(" 0.0"):
            a.faults.append(f"a video is held for nobody: {line}")


def _life(a: Any, data: bytes) -> None:
    if video := _open(a, data):
        _point(a, video)
        _track(a, video)
        a.send("GET", f"/v1/videos/{video}/frames/{FRAMES // 2}")
        a.send("DELETE", f"/v1/videos/{video}")


def _open(a: Any, data: bytes) -> str | None:
    headers = {"Content-Type": "video/mp4"}
    answer = a.send("POST", "/v1/videos", content=data, headers=headers)
    return answer.json()["id"] if answer is not None and answer.is_success else None


def _point(a: Any, video: str) -> None:
    a.send(
        "POST", f"/v1/videos/{video}/prompts", json={"frame": 0, "object": 1, "points": [[20, 30]]}
    )


def _track(a: Any, video: str) -> None:
    answer = a.send("POST", f"/v1/videos/{video}/track")
    if answer is not None and answer.is_success:
        last = answer.text.rstrip().rsplit("event: ", 1)[-1].split("\n")[0]
        a.ends[f"tracking: {last}"] += 1
        if last not in ("done", "error"):
            a.faults.append("tracking ended without a word")
        if '"internal"' in answer.text:
            a.faults.append("tracking met an internal error")
