"""Limits before cost: what asks for much is refused by what it says, and holds nobody up."""

from __future__ import annotations

import gzip
import io
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samtrt.errors import ManifestError
from samtrt.manifest import Manifest
from samtrt.masks import rle
from samtrt.server import scheduler
from samtrt.server.decoder import load_decoder
from samtrt_page import STATIC
from support.server_cases import image_bytes, wait_for

POINT = {"points": [[50, 60]]}
JSON = {"Content-Type": "application/json"}
MIB = 1 << 20


def check(response: Any, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    assert words in response.json()["error"]["message"]


def in_use(served: Any, what: str) -> float:
    """Return how many slots of a kind are taken."""
    for line in served.client.get("/metrics").text.splitlines():
        if line.startswith(f'samtrt_slots_in_use{{what="{what}"}}'):
            return float(line.split()[1])
    return 0.0


def grey_png(width: int, height: int) -> bytes:
    """A whole PNG of one bit a pixel, of a few kilobytes whatever its size."""
    row = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        (b"IDAT", body),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def many_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 150)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


@pytest.mark.parametrize(
    ("size", "words"),
    [((2_000_000, 1), "side"), ((1, 40_000), "side"), ((30_000, 100), "other")],
)
def test_long_pictures(served: Any, size: tuple[int, int], words: str) -> None:
    check(served.client.post("/v1/images", content=grey_png(*size)), 413, words)


def test_a_picture_that_takes_more_memory_than_is_set_aside(serve: Callable[..., Any]) -> None:
    served = serve(memory_bytes=8 * MIB)
    response = served.client.post("/v1/images", content=grey_png(6000, 6000))
    assert response.status_code in (413, 422), response.text
    assert "memory" in response.json()["error"]["message"]
    assert served.client.post("/v1/images", content=grey_png(600, 600)).status_code == 201


def test_a_large_picture_waits_for_its_memory(serve: Callable[..., Any]) -> None:
    served = serve(memory_bytes=256 * MIB)
    data = grey_png(4000, 4000)
    with ThreadPoolExecutor(4) as pool:
        statuses = list(
            pool.map(lambda _: served.client.post("/v1/images", content=data).status_code, range(4))
        )
    assert statuses == [201] * 4


def test_too_many_scans(served: Any) -> None:
    check(served.client.post("/v1/images", content=many_scans(64, 5000)), 422, "scans")


def test_reading_ends_with_its_time(serve: Callable[..., Any], picture: np.ndarray) -> None:
    """No thread goes on decoding what nobody waits for: its process is killed."""
    served = serve()
    served.add(picture)  # starts a process
    served.app.state.scheduler.settings = replace(served.settings, request_seconds=0.3)
    check(served.client.post("/v1/images", content=many_scans(2500, 190)), 504, "gave up")
    wait_for(lambda: in_use(served, "uploads") == 0)
    served.app.state.scheduler.settings = served.settings
    served.add(picture)


def test_a_slot_is_held_until_the_work_ends(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(prompt_slots=1)
    image_id = served.add(picture)
    served.app.state.scheduler.settings = replace(served.settings, request_seconds=0.3)
    served.decoder.open.clear()
    check(served.masks(image_id, POINT), 504, "gave up")
    # The decoder cannot be interrupted: what it runs still has its slot.
    assert in_use(served, "prompts") == 1
    check(served.masks(image_id, POINT), 429, "busy")
    served.decoder.open.set()
    wait_for(lambda: in_use(served, "prompts") == 0)


LONG_JSON = {
    "wrong labels": b'{"prompts": [{"points": [[1, 1]], "labels": [' + b"2," * 2_000_000 + b"2]}]}",
    "some labels": b'{"prompts": [{"points": [[1, 1]], "labels": [' + b"2," * 50_000 + b"2]}]}",
    "wrong points": b'{"prompts": [{"points": [' + b'["",1],' * 9_000 + b"[1, 1]]}]}",
    "empty prompts": b'{"prompts": [' + b"{}," * 1_300_000 + b"{}]}",
    "nothing": b"[" + b"[]," * 1_300_000 + b"[]]",
    "names": b"{" + b",".join(b'"k%d":1' % i for i in range(300_000)) + b"}",
    "some names": b"{" + b",".join(b'"k%d":1' % i for i in range(1000)) + b"}",
    "objects in objects": b'{"a":' * 500_000,
    "lists in lists": b"[" * 4_000_000,
    "digits": b'{"prompts": [{"points": [[1' + b"0" * 400 + b", 1]]}]}",
    "more digits": b'{"prompts": [{"points": [[1' + b"0" * 3_000_000 + b", 1]]}]}",
}


@pytest.mark.parametrize("what", LONG_JSON)
def test_long_json_is_refused_in_one_line(served: Any, what: str) -> None:
    for path in ("masks", "auto"):
        response = served.client.post(
            f"/v1/images/nobody/{path}", content=LONG_JSON[what], headers=JSON
        )
        assert response.status_code in (413, 422), response.text
        assert 0 < len(response.json()["error"]["message"]) <= 300


def test_health_is_told_while_json_is_parsed(
    served: Any, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on, parse = threading.Event(), threading.Event(), scheduler.parse_json

    def slow(*arguments: Any) -> Any:
        entered.set()
        assert go_on.wait(30)
        return parse(*arguments)

    monkeypatch.setattr(scheduler, "parse_json", slow)
    image_id = served.add(picture)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.masks, image_id, POINT)
        assert entered.wait(30)
        assert served.client.get("/healthz").status_code == 200
        go_on.set()
        assert answer.result(30).status_code == 200


def test_bodies_that_wait_have_a_limit(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(body_bytes=20_000)
    check(served.client.post("/v1/images", content=b"\0" * 30_000), 429, "as many bytes")
    assert served.upload(picture[:20, :20]).status_code == 201


def test_answers_have_a_limit(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(max_answer_bytes=1000)
    image_id = served.add(picture)
    check(served.masks(image_id, *[POINT] * 8), 413, "fewer masks")
    assert served.masks(image_id, POINT, candidates=1).status_code == 200


def test_masks_as_prompts_have_a_limit(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(max_mask_pixels=2 * 120 * 200)
    image_id = served.add(picture)
    mask = {"mask": rle.compress(rle.encode(np.ones((120, 200), dtype=np.bool_)))}
    assert served.masks(image_id, mask, mask).status_code == 200
    check(served.masks(image_id, mask, mask, mask), 422, "pixels of masks")


@pytest.mark.parametrize("size", [[120, 200], [0, 0], [2**31, 2**33]])
def test_counts_that_wrap_around(served: Any, picture: np.ndarray, size: list[int]) -> None:
    """65,536 runs of 2^48 are 0 modulo 2^64: the server died of a write past a buffer."""
    run = "PPPPPPPPP" + "8"  # 2^48
    counts = run + run + "0" * 65_534 + "`g8"
    image_id = served.add(picture)
    response = served.masks(image_id, {"mask": {"size": size, "counts": counts}})
    assert response.status_code == 422
    assert served.masks(image_id, POINT).status_code == 200


def test_a_form_never_touches_the_disk(
    served: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "full"))
    pixels = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), dtype=np.uint8)
    data = image_bytes(pixels)
    assert len(data) > 2 * MIB
    response = served.client.post("/v1/images", files={"file": ("x.png", data)})
    assert response.status_code == 201, response.text


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("multipart/form-data", b"--x\r\n", "boundary"),
        ("multipart/form-data; boundary=x", b"nonsense", "form"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", "no file"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n1\r\n--x--\r\n',
            "no file",
        ),
    ],
)
def test_forms_that_are_none(served: Any, kind: str, body: bytes, words: str) -> None:
    response = served.client.post("/v1/images", content=body, headers={"Content-Type": kind})
    assert response.status_code in (400, 422), response.text
    assert words in response.json()["error"]["message"]


def test_the_graph_is_that_of_its_etag(serve: Callable[..., Any], fake_directory: Path) -> None:
    """A model that is exported anew under a running server does not change what it sends."""
    before = (fake_directory / "decoder.onnx").read_bytes()
    served = serve(model=Manifest.load(fake_directory), directory=fake_directory)
    (fake_directory / "decoder.onnx").write_bytes(b"another graph")
    response = served.client.get("/v1/model/decoder.onnx")
    assert response.content == before
    assert served.client.get("/v1/model").json()["decoder"]["sha256"] in response.headers["etag"]


def test_a_graph_that_is_not_the_manifests_is_not_served(fake_directory: Path) -> None:
    manifest = Manifest.load(fake_directory)
    (fake_directory / "decoder.onnx").write_bytes(b"not A graph")
    with pytest.raises(ManifestError, match=r"decoder\.onnx is not the file"):
        load_decoder(manifest, fake_directory)


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("identity", False),
        ("", False),
    ],
)
def test_webassembly_is_sent_as_the_browser_takes_it(
    served: Any, accepts: str, packed: bool
) -> None:
    path = sorted(STATIC.rglob("*.wasm.gz"))[0]
    url = f"/static/{path.relative_to(STATIC).as_posix().removesuffix('.gz')}"
    with served.client.stream("GET", url, headers={"Accept-Encoding": accepts}) as response:
        assert response.status_code == 200
        assert response.headers["vary"] == "Accept-Encoding"
        raw = b"".join(response.iter_raw())
    assert ("content-encoding" in response.headers) == packed
    assert (gzip.decompress(raw) if packed else raw) == gzip.decompress(path.read_bytes())
