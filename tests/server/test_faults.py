"""One request fails, with a status and a line that says why; the server lives."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.manifest import Manifest
from support.server_cases import image_bytes, wait_for

POINT = {"points": [[50, 60]]}


def post(served: Any, data: bytes, kind: str = "image/png") -> Any:
    return served.client.post("/v1/images", content=data, headers={"Content-Type": kind})


def check(response: Any, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    assert words in response.json()["error"]["message"]
    assert "\n" not in response.json()["error"]["message"]


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def alive(served: Any, picture: np.ndarray) -> Any:
    """The server, which must still work after whatever the test did to it."""
    yield served
    assert served.upload(picture).status_code == 201


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(alive: Any, picture: np.ndarray, kind: str, share: float) -> None:
    data = image_bytes(picture, kind)
    response = post(alive, data[: int(len(data) * share)])
    assert response.status_code in (415, 422), response.text


def test_not_an_image(alive: Any) -> None:
    check(post(alive, b"hello, this is text"), 415, "not an image")


def test_empty(alive: Any) -> None:
    check(post(alive, b""), 422, "empty")


def test_wrong_media_type(alive: Any) -> None:
    check(post(alive, b"{}", "application/json"), 415, "image/*")


@pytest.mark.parametrize("kind", ["PDF", "PPM", "ICO"])
def test_formats_beyond_the_list_are_not_even_tried(
    alive: Any, picture: np.ndarray, kind: str
) -> None:
    check(post(alive, image_bytes(picture, kind)), 415, "known format")


@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (2**30, 1)])
def test_a_bomb_is_refused_by_its_header(alive: Any, size: tuple[int, int]) -> None:
    check(post(alive, png_header(*size)), 413, "pixels")
    assert alive.encoder.batches == []


def test_a_text_bomb_in_a_png(alive: Any) -> None:
    body = b"zTXtcomment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    good = png_header(8, 8)
    response = post(alive, good[:33] + chunk + good[33:])
    assert response.status_code in (413, 415, 422)


def test_too_many_bytes(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(max_upload_bytes=10_000)
    check(post(served, b"\0" * 10_001), 413, "10,000 bytes")

    def without_length() -> Any:
        for _ in range(11):
            yield b"\0" * 1000

    check(post(served, without_length()), 413, "10,000 bytes")  # type: ignore[arg-type]
    assert served.upload(picture[:20, :20]).status_code == 201


def test_too_much_json(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(max_json_bytes=1000)
    response = served.masks(served.add(picture), {"points": [[1, 1]] * 500})
    check(response, 413, "1,000 bytes")


def test_ten_thousand_points(alive: Any, picture: np.ndarray) -> None:
    prompt = {"points": [[1, 1]] * 10_000, "labels": [1] * 10_000}
    check(alive.masks(alive.add(picture), prompt), 422, "10000 points; the server takes 100")


def test_more_points_than_the_engine_takes(alive: Any, picture: np.ndarray) -> None:
    image_id = alive.add(picture)
    info = alive.decoder.inputs["point_coords"]
    alive.decoder.inputs["point_coords"] = replace(info, max_shape=(4, 3, 2))
    assert alive.masks(image_id, {"points": [[1, 1]] * 2}).status_code == 200
    assert alive.masks(image_id, {"points": [[1, 1]], "box": [1, 1, 9, 9]}).status_code == 200
    check(alive.masks(image_id, {"points": [[1, 1]] * 3}), 422, "4 points")


def test_a_thousand_prompts(alive: Any, picture: np.ndarray) -> None:
    check(alive.masks(alive.add(picture), *[POINT] * 1000), 422, "the server takes 64")


BAD_PROMPTS: list[tuple[Any, str]] = [
    ({}, "no prompt"),
    ({"points": []}, "points"),
    ({"points": [["a", 1]]}, "number"),
    ({"points": [[1]]}, "at least 2"),
    ({"points": [[1, 2, 3]]}, "at most 2"),
    ({"points": [[1, 1]], "labels": [1, 0]}, "one label a point"),
    ({"points": [[1, 1]], "labels": [2]}, "labels"),
    ({"points": [[1, 1]], "labels": [True]}, "integer"),
    ({"labels": [1]}, "labels without points"),
    ({"points": [[True, 1]]}, "number"),
    ({"points": [[5000, 1]]}, "outside"),
    ({"points": [[1e400, 1]]}, "number"),
    ({"box": [10, 10, 5, 5]}, "empty"),
    ({"box": [1, 2, 3]}, "at least 4"),
    ({"box": [900, 900, 950, 950]}, "outside"),
    ({"colour": 1}, "colour"),
    ({"mask": {"size": [5, 5], "counts": "0"}}, "image 120 x 200"),
    ({"mask": {"size": ["120", 200], "counts": "5"}}, "integer"),
    ({"mask": {"size": [120, 200], "counts": "###"}}, "compressed COCO"),
    ({"mask": {"size": [120, 200], "counts": "5"}}, "add up"),
    ({"low_res_logits": "%%%"}, "base64"),
    ({"low_res_logits": "AAAA"}, "3 bytes"),
    ("point", "an object"),
    (None, "an object"),
]


@pytest.mark.parametrize(("prompt", "words"), BAD_PROMPTS)
def test_bad_prompts(alive: Any, picture: np.ndarray, prompt: Any, words: str) -> None:
    import json

    response = alive.client.post(
        f"/v1/images/{alive.add(picture)}/masks",
        content=json.dumps({"prompts": [prompt]}),
        headers={"Content-Type": "application/json"},
    )
    check(response, 422, words)


@pytest.mark.parametrize(
    "options", [{"candidates": True}, {"best_only": "yes"}, {"low_res_logits": 1}]
)
def test_options_of_another_type(
    alive: Any, picture: np.ndarray, options: dict[str, object]
) -> None:
    (name,) = options
    check(alive.masks(alive.add(picture), POINT, **options), 422, name)


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[" * 50_000, b'{"prompts": 1' + b"0" * 5000 + b"}", b"null"]
)
def test_bad_json(alive: Any, picture: np.ndarray, body: bytes) -> None:
    response = alive.client.post(
        f"/v1/images/{alive.add(picture)}/masks",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code in (400, 422)
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/masks", "/auto"])
def test_unknown_id(alive: Any, path: str) -> None:
    body = {"prompts": [POINT]} if path == "/masks" else {}
    check(alive.client.post(f"/v1/images/nobody{path}", json=body), 404, "upload it first")


def test_evicted_id(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(cache_bytes=1)  # room for the newest alone
    first, second = served.add(picture), served.add(picture)
    check(served.masks(first, POINT), 410, "upload it again")
    assert served.masks(first, POINT).json()["error"]["code"] == "image_evicted"
    assert served.masks(second, POINT).status_code == 200


def test_evicted_images_come_back_from_disk(
    serve: Callable[..., Any], picture: np.ndarray, tmp_path: Path
) -> None:
    served = serve(cache_bytes=1, spill_dir=tmp_path)
    ids = [served.add(picture) for _ in range(3)]
    answers = [served.masks(image_id, POINT) for image_id in ids]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    served.client.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []  # nothing of anyone's images is left behind


def test_a_full_disk_costs_only_what_it_could_not_hold(
    serve: Callable[..., Any],
    picture: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = serve(cache_bytes=1, spill_dir=tmp_path)

    opened = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if "w" in mode and path.suffix == ".embedding":
            raise OSError(28, "No space left on device")
        return opened(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", full)
    first, second = served.add(picture), served.add(picture)
    assert served.masks(first, POINT).status_code == 410
    assert served.masks(second, POINT).status_code == 200
    assert "samtrt_spill_failures_total 1.0" in served.client.get("/metrics").text
    assert not list(tmp_path.rglob("*.embedding"))
    monkeypatch.undo()
    third = served.add(picture)
    assert [served.masks(i, POINT).status_code for i in (second, third)] == [200, 200]


def test_a_backend_that_throws(alive: Any, picture: np.ndarray) -> None:
    image_id = alive.add(picture)
    alive.decoder.fails = lambda _: True
    response = alive.masks(image_id, POINT)
    assert response.status_code == 500
    assert "secret" not in response.text
    alive.decoder.fails = lambda _: False
    assert alive.masks(image_id, POINT).status_code == 200


def test_only_the_image_at_fault_fails_in_a_batch(
    serve: Callable[..., Any], manifest: Manifest
) -> None:
    served = serve(model=manifest.model_copy(update={"dynamic_batch": True}))
    served.encoder.fails = lambda feeds: (feeds["images"].max(axis=(1, 2, 3)) > 2).any()
    served.encoder.open.clear()
    white, black = (np.full((30, 30, 3), value, dtype=np.uint8) for value in (255, 0))
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(served.upload, black)]
        served.encoder.entered.acquire()
        futures += [pool.submit(served.upload, image) for image in (black, white, black)]
        wait_for(lambda: len(served.app.state.scheduler._encodes._waiting) == 3)
        served.encoder.open.set()
        statuses = [future.result(30).status_code for future in futures]
    assert statuses == [201, 201, 500, 201]


def test_a_full_queue_says_when_to_come_back(
    serve: Callable[..., Any], picture: np.ndarray
) -> None:
    served = serve(upload_slots=2, prompt_slots=3)
    image_id = served.add(picture)
    for what, gate, call, slots in (
        ("uploads", served.encoder, lambda: served.upload(picture), 2),
        ("prompts", served.decoder, lambda: served.masks(image_id, POINT), 3),
    ):
        gate.open.clear()
        with ThreadPoolExecutor(slots) as pool:
            taken = [pool.submit(call) for _ in range(slots)]
            line = f'samtrt_slots_in_use{{what="{what}"}} {slots}.0'
            wait_for(lambda line=line: line in served.client.get("/metrics").text)
            refused = call()
            gate.open.set()
            assert all(future.result(30).status_code < 300 for future in taken)
        check(refused, 429, "try again")
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert call().status_code < 300


def test_a_request_that_takes_too_long(serve: Callable[..., Any], picture: np.ndarray) -> None:
    served = serve(request_seconds=0.2)
    image_id = served.add(picture)
    served.decoder.open.clear()
    check(served.masks(image_id, POINT), 504, "gave up")
    served.decoder.open.set()
    assert served.masks(image_id, POINT).status_code == 200


def test_automatic_masks_stop_when_the_time_is_up(
    serve: Callable[..., Any], picture: np.ndarray
) -> None:
    served = serve(auto_seconds=0.2)
    image_id = served.add(picture)
    served.decoder.open.clear()
    url = f"/v1/images/{image_id}/auto"
    check(served.client.post(url, json={"points_per_side": 64}), 504, "gave up")
    served.decoder.open.set()
    # 4096 points are 256 decoder runs; the thread ends long before and takes the next request.
    assert served.client.post(url, json={"points_per_side": 1}).status_code == 200
    assert len(served.decoder.batches) < 20


@pytest.mark.parametrize(
    "options",
    [
        {"points_per_side": 0},
        {"points_per_side": 1000},
        {"crop_n_layers": 1},
        {"use_m2m": "yes"},
        {"multimask_output": 1},
        [],
    ],
)
def test_bad_automatic_options(alive: Any, picture: np.ndarray, options: Any) -> None:
    response = alive.client.post(f"/v1/images/{alive.add(picture)}/auto", json=options)
    assert response.status_code == 422
