"""The client against a real server over real sockets, compared with the predictor."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from samtrt import Client
from samtrt.client.connection import _seconds
from samtrt.errors import ImageError, PromptError, RemoteError
from samtrt.manifest import Manifest
from samtrt.server.settings import Settings
from support.server_cases import Served, live, make_picture

TOKEN = "token-of-the-client-test"


@pytest.fixture
def picture() -> np.ndarray:
    """A non-square picture."""
    return make_picture()


@pytest.fixture
def served(manifest: Manifest) -> Served:
    return Served(manifest, Settings(token=TOKEN))


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with live(served.app) as url, Client(url, TOKEN, retries=2) as client:
        yield client


@pytest.mark.parametrize("multimask", [True, False])
def test_predict_is_the_predictors(
    client: Client, served: Served, picture: np.ndarray, multimask: bool
) -> None:
    local = served.predictor.bind(served.predictor.encode(picture))
    arguments = {"point_coords": [[50, 60]], "point_labels": [1], "box": [20, 30, 120, 100]}
    expected = local.predict(**arguments, multimask_output=multimask)  # type: ignore[arg-type]
    with client.upload(picture) as image:
        assert image.original_size == picture.shape[:2]
        got = image.predict(**arguments, multimask_output=multimask)  # type: ignore[arg-type]
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        again = image.predict(mask_input=got.low_res_logits[:1], multimask_output=False)
        np.testing.assert_array_equal(again.masks[0], expected.masks[0])
        assert image.predict([[5, 5]], [1], low_res_logits=False).low_res_logits.shape == (3, 0, 0)


def test_every_form_of_image(client: Client, picture: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    embeddings = [
        client.upload(image).embedding() for image in (picture, path, str(path), path.read_bytes())
    ]
    for embedding in embeddings:
        np.testing.assert_array_equal(embedding.features, embeddings[0].features)
        assert embedding.original_size == (120, 200)


def test_automatic_masks(client: Client, picture: np.ndarray) -> None:
    masks = client.upload(picture).auto(points_per_side=4, stability_score_thresh=0.1)
    assert len(masks) > 4
    for mask in masks:
        assert mask["segmentation"].shape == (120, 200)
        assert mask["segmentation"].sum() == mask["area"]


def test_an_evicted_image_is_sent_again(
    client: Client, served: Served, picture: np.ndarray
) -> None:
    image = client.upload(picture)
    first = image.id
    served.app.state.scheduler.store._forget(first)
    assert image.predict([[50, 60]], [1]).masks.any()
    assert image.id != first


def test_busy_servers_are_asked_again(
    client: Client, served: Served, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = client.upload(picture)
    waits: list[float] = []
    admission = served.app.state.scheduler.prompts

    def leave(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            busy.__exit__(None, None, None)

    monkeypatch.setattr("samtrt.client.connection.time.sleep", leave)
    busy = admission.admit(10_000)
    busy.__enter__()
    assert image.predict([[50, 60]], [1]).masks.any()
    assert len(waits) == 2
    assert min(waits) >= 1


def test_errors_are_ours(client: Client, picture: np.ndarray) -> None:
    image = client.upload(picture)
    with pytest.raises(PromptError, match="outside the image"):
        image.predict([[500, 5]], [1])
    with pytest.raises(PromptError, match="array of numbers"):
        image.predict([[5, 5], [5]], [1, 1])
    with pytest.raises(PromptError, match="no prompt"):
        image.predict()
    with pytest.raises(ImageError, match="not an image"):
        client.upload(b"hello")
    with pytest.raises(ImageError, match="cannot read"):
        client.upload("/nonexistent.png")
    with pytest.raises(ImageError, match="uint8"):
        client.upload(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    image.delete()
    image.delete()  # no complaint


def test_a_wrong_token(served: Served) -> None:
    with live(served.app) as url, Client(url, "wrong") as client:
        with pytest.raises(RemoteError, match="token") as error:
            client.model()
        assert (error.value.status, error.value.code) == (401, "unauthorized")


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "nonsense", "http://[", ""])
def test_no_server(url: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = url.format(port=free.getsockname()[1])
        with Client(address) as client, pytest.raises(RemoteError, match="cannot reach"):
            client.model()


def test_the_model(client: Client) -> None:
    model: dict[str, Any] = client.model()
    assert (model["model"], model["backend"], model["image_size"]) == ("vit_t", "fake", 256)


@pytest.mark.parametrize(
    "text",
    [
        b"<html>hello</html>",
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"id": 1}',
        b'{"id": "a", "height": "x", "width": 1, "encode_ms": 1}',
        b"[" * 100_000,
        b'{"id": "a", "height": 1'
        + b"0" * 400
        + b', "width": 1, "encode_ms": 1'
        + b"0" * 400
        + b"}",
    ],
)
def test_an_answer_that_is_no_samtrt_servers(text: bytes, picture: np.ndarray) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=text))
    client = Client("http://other", http=httpx.Client(transport=transport))
    with pytest.raises(RemoteError, match="is this the address of a samtrt server") as error:
        client.upload(picture)
    assert "\n" not in str(error.value)


MASKS = [
    {},
    {"results": []},
    {"results": [{"masks": []}]},
    {"results": [{"masks": [{"rle": {"size": [1, 1], "counts": "1"}, "score": 1}]}]},
    {"results": [{"masks": [{"rle": {"size": [120, 200], "counts": "P" * 9}, "score": 1}]}]},
    {"results": [{"masks": [{"rle": {"size": [120, 200], "counts": [2**62] * 4}, "score": 1}]}]},
]


@pytest.mark.parametrize("answer", MASKS)
def test_masks_that_are_none(answer: dict[str, Any], picture: np.ndarray) -> None:
    image = {"id": "a", "height": 120, "width": 200, "encode_ms": 1}

    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answer if "masks" in request.url.path else image)

    client = Client("http://other", http=httpx.Client(transport=httpx.MockTransport(respond)))
    with pytest.raises(RemoteError, match="not masks"):
        client.upload(picture).predict([[1, 1]], [1])


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (None, 1, 1),
        ("5", 5, 5),
        ("100000", 60, 60),
        ("9" * 400, 60, 60),
        ("9" * 5000, 60, 60),
        ("-3", 1, 1),
        ("soon", 1, 1),
        ("inf", 1, 1),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 9999 07:28:00 GMT", 60, 60),
    ],
)
def test_the_wait_for_a_busy_server_has_a_bound(
    header: str | None, least: float, most: float
) -> None:
    assert least <= _seconds(header) <= most
