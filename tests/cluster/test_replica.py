"""Replicas of a server, called as Ray Serve would: images outlive the replica that encoded them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from samtrt.cluster.serving.replica import Call, Replica, Reply
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.server.settings import Settings
from support.fake_runtime import fake_predictor
from support.oracle import random_image

TOKEN = "0123456789abcdef"
ID = "kV0mM3Jt1l2cWbqfX0d9Aw"


@dataclass(frozen=True)
class FakeEngines:
    manifest: Manifest
    directory: Path | None = None

    def load(self) -> Predictor:
        return fake_predictor(self.manifest)


Start = Callable[..., Awaitable[Replica]]


@asynccontextmanager
async def replicas(manifest: Manifest, images: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Replica:
            chosen = Settings(token=TOKEN, allowed_hosts=None, readers=1, **settings)
            replica: Replica = Replica.__new__(Replica)
            await replica.__init__(FakeEngines(manifest), chosen, str(images))  # type: ignore[misc]
            stack.push_async_callback(replica.close)
            return replica

        yield start


def photo() -> bytes:
    out = io.BytesIO()
    Image.fromarray(random_image(60, 80)).save(out, "PNG")
    return out.getvalue()


def call(method: str, path: str, body: bytes | dict[str, Any] = b"", token: str = TOKEN) -> Call:
    kind = b"image/png" if isinstance(body, bytes) else b"application/json"
    headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", kind)]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(method, path, headers, content, ID)


UPLOAD = ("POST", "/v1/images")
PROMPT = ("POST", f"/v1/images/{ID}/masks", {"prompts": [{"points": [[40, 30]]}]})
DELETE = ("DELETE", f"/v1/images/{ID}")


def masks(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return json.loads(reply.body)["results"]


@pytest.mark.parametrize("images", ["folder", "memory://images"])
def test_an_image_outlives_the_replica_that_encoded_it(
    manifest: Manifest, tmp_path: Path, images: str
) -> None:
    place: Any = images if "://" in images else tmp_path / images

    async def scene() -> None:
        async with replicas(manifest, place) as start:
            first = await start()
            uploaded = await first.answer(call(*UPLOAD, photo()))
            assert json.loads(uploaded.body)["id"] == ID
            expected = masks(await first.answer(call(*PROMPT)))
            other = await start()
            answers = await asyncio.gather(*(other.answer(call(*PROMPT)) for _ in range(5)))
            assert [masks(answer) for answer in answers] == [expected] * 5
            assert other.held() == [ID]
            assert (await other.answer(call(*DELETE))).status == 204
            assert (await first.answer(call(*PROMPT))).status == 404
            assert first.held() == []

    asyncio.run(scene())


def test_what_was_dropped_to_make_room_comes_back(manifest: Manifest, tmp_path: Path) -> None:
    async def scene() -> None:
        async with replicas(manifest, tmp_path) as start:
            replica = await start(cache_bytes=1)  # the newest alone
            await replica.answer(call(*UPLOAD, photo()))
            expected = masks(await replica.answer(call(*PROMPT)))
            second = call(*UPLOAD, photo())
            await replica.answer(
                Call(second.method, second.target, second.headers, second.body, "b" * 22)
            )
            assert replica.held() == ["b" * 22]
            assert masks(await replica.answer(call(*PROMPT))) == expected

    asyncio.run(scene())


def test_access_is_checked_before_an_image_is_brought_back_or_removed(
    manifest: Manifest, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with replicas(manifest, tmp_path) as start:
            assert (await (await start()).answer(call(*UPLOAD, photo()))).status == 201
            other = await start()
            for one in (PROMPT, DELETE):
                assert (await other.answer(call(*one, token="wrong-token-wrong"))).status == 401
            assert other.held() == []
            assert (await other.answer(call(*DELETE))).status == 204
            assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    asyncio.run(scene())


def test_what_is_no_image_is_not_kept(manifest: Manifest, tmp_path: Path) -> None:
    async def scene() -> None:
        async with replicas(manifest, tmp_path) as start:
            replica = await start()
            assert (await replica.answer(call(*UPLOAD, b"no picture"))).status in (415, 422)
            assert (await replica.answer(call(*PROMPT))).status == 404
            assert list(tmp_path.iterdir()) == []

    asyncio.run(scene())


def test_a_stored_image_does_not_tell_its_id(manifest: Manifest, tmp_path: Path) -> None:
    async def scene() -> None:
        async with replicas(manifest, tmp_path) as start:
            await (await start()).answer(call(*UPLOAD, photo()))
            (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert ID not in str(stored)

    asyncio.run(scene())
