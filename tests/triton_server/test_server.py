"""A real Triton server on loopback, started once: its answers are the predictor's."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt import TritonClient
from samtrt.errors import ImageError, PromptError, RemoteError
from samtrt.predictor import Predictor
from samtrt.triton.connection import Place
from samtrt.triton.models import Scaling
from samtrt.triton.repository import RepositoryOptions, write_repository
from samtrt.triton.server import TritonMissingError, find_server
from support.server_cases import image_bytes, make_picture, wait_for
from support.triton_server import Running, started

pytest.importorskip("tritonclient")
try:
    find_server()
except TritonMissingError as error:
    pytest.skip(f"no Triton: {error}", allow_module_level=True)

pytestmark = pytest.mark.long

EACH = 256 * 16 * 16 * 4
"""Bytes of the tiny model's embedding."""
KEPT = 3
"""Images that an instance keeps."""


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, hq_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Two models: `sam` with two instances, and `hq`, whose decoder takes two maps."""
    place = tmp_path_factory.mktemp("triton")
    for name, directory in (("sam", tiny_model), ("hq", hq_model)):
        ours = name == "sam"
        options = RepositoryOptions(
            name=name,
            threads=1,
            cache_bytes=KEPT * EACH,
            scaling=Scaling(instances=1 + ours, auto_instances=int(ours)),
        )
        write_repository(directory, place / "models", options)
    with started(place / "models", place / "log", "--exit-timeout-secs", "1") as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, server: Running) -> str:
    return str(getattr(server, request.param))


PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": [[50, 60]], "point_labels": [1]},
    "box": {"box": [20.5, 30, 120, 100], "multimask_output": False},
    "both": {"point_coords": [[50, 60], [9, 9]], "point_labels": [1, 0], "box": [20, 30, 150, 99]},
}


@pytest.mark.parametrize("name", ["sam", "hq"])
def test_masks_are_the_predictors(url: str, name: str, tiny_model: Path, hq_model: Path) -> None:
    picture = make_picture()
    with ExitStack() as stack:
        directory = {"sam": tiny_model, "hq": hq_model}[name]
        local = stack.enter_context(Predictor.load(directory))
        local.set_image(picture)
        client = stack.enter_context(TritonClient(url, model=name))
        image = stack.enter_context(client.upload(picture))
        assert image.original_size == (120, 200)
        for prompt in PROMPTS.values():
            expected, got = local.predict(**prompt), image.predict(**prompt)
            for ours, theirs in zip(got, expected, strict=True):
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs)
        again = image.predict(mask_input=got.low_res_logits[:1], low_res_logits=False)
        expected = local.predict(mask_input=got.low_res_logits[:1])
        np.testing.assert_array_equal(again.masks, expected.masks)
        assert again.low_res_logits.shape == (*again.iou_predictions.shape, 0, 0)
        boxes = {"boxes": [[20, 30, 120, 100], [0, 0, 90, 90]]}
        for ours, theirs in zip(
            image.predict_batch(**boxes), local.predict_batch(**boxes), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        embedding = image.embedding()
        assert embedding.frame == local.embedding.frame
        for map_name, theirs in local.embedding.maps.items():
            np.testing.assert_array_equal(embedding.maps[map_name], theirs)
        assert client.model()["model"] == local.manifest.model


def test_automatic_masks(server: Running) -> None:
    options = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    with TritonClient(server.grpc) as client, client.upload(make_picture()) as image:
        found = image.auto(**options)
        assert found
        assert found[0]["segmentation"].shape == (120, 200)
        assert found[0]["segmentation"].sum() == found[0]["area"]
        with pytest.raises(PromptError, match="options: points_per_side"):
            image.auto(points_per_side=0)


def test_clicks_reach_the_instance_that_has_the_image(server: Running) -> None:
    before = sum(server.figures("samtrt_misses_total", "sam").values())
    encoded = server.figures("samtrt_encoded_total", "sam")
    with ExitStack() as stack:
        client = stack.enter_context(TritonClient(server.grpc))
        pictures = [make_picture(60 + n, 90) for n in range(4)]
        images = [stack.enter_context(client.upload(one)) for one in pictures]
        for _ in range(3):
            for image in images:
                image.predict([[5, 5]], [1], low_res_logits=False)
    # An instance without the image would have missed it, and the client sent it again.
    assert sum(server.figures("samtrt_misses_total", "sam").values()) - before == len(pictures)
    now = server.figures("samtrt_encoded_total", "sam")
    assert [now[one] - encoded.get(one, 0) for one in sorted(now)] == [2, 2]


def test_what_is_kept_is_bounded_and_what_was_dropped_is_sent_again(
    url: str, server: Running
) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(TritonClient(url))
        sizes = [(40 + n, 60) for n in range(4 * KEPT)]
        images = [stack.enter_context(client.upload(make_picture(*size))) for size in sizes]
        assert images[0].predict([[5, 5]], [1]).masks.shape == (3, *sizes[0])
        kept = server.figures("samtrt_cached_bytes", "sam")
        assert len(kept) == 2
        assert set(kept.values()) == {KEPT * EACH}


def test_a_client_that_lost_its_place_gets_another(url: str) -> None:
    with TritonClient(url) as client, client.upload(make_picture()) as image:
        expected = image.predict([[50, 60]], [1])
        image._place = 1 + secrets.randbits(62)
        np.testing.assert_array_equal(image.predict([[50, 60]], [1]).masks, expected.masks)


NOISE = np.random.default_rng(0).integers(0, 255, 5000, dtype=np.uint8).tobytes()


def test_wrong_inputs_are_told_and_nothing_breaks(url: str) -> None:
    whole = image_bytes(make_picture())
    with TritonClient(url) as client:
        for data in (b"", NOISE, whole[:900]):
            with pytest.raises(ImageError):
                client.upload(data)
        with client.upload(whole) as image:
            wrong: list[dict[str, Any]] = [
                {"point_coords": [[500, 5]], "point_labels": [1]},
                {"point_coords": [[5, 5]]},
                {"point_coords": [[5, 5]], "point_labels": [1, 1]},
                {"box": [9, 9, 5, 5]},
                {"box": [1, 2, 3]},
                {"mask_input": np.zeros((1, 7, 7))},
                {"point_coords": [["a", 5]], "point_labels": [1]},
                {},
            ]
            for prompt in wrong:
                with pytest.raises(PromptError) as caught:
                    image.predict(**prompt)
                assert "\n" not in str(caught.value).strip()
            assert image.predict([[5, 5]], [1]).masks.shape == (3, 120, 200)
    with TritonClient(url, model="none") as client, pytest.raises(RemoteError, match="none"):
        client.upload(whole)


def test_tensors_of_other_types_and_shapes_are_refused(server: Running) -> None:
    with TritonClient(server.grpc) as client:
        for arrays in (
            {"image": np.zeros(5, np.float32)},
            {"image": np.zeros((5, 5), np.uint8)},
            {"image_sha256": np.zeros(31, np.uint8)},
            {"point_coords": np.zeros((1, 1, 3))},
            {"nothing": np.zeros(1)},
        ):
            with pytest.raises(RemoteError) as caught:
                client.ask("sam", arrays, ["rle"], Place(7, first=True))
            assert caught.value.status == 400
        assert client.model()["limits"]["max_prompts"] == 256


def test_figures_are_there(server: Running) -> None:
    with TritonClient(server.grpc) as client, client.upload(make_picture()) as image:
        image.predict_batch(boxes=[[20, 30, 120, 100]] * 3)
    for name in ("encoded_total", "hits_total", "prompts_total", "cached_images"):
        assert sum(server.figures(f"samtrt_{name}", "sam").values()) > 0, name


def test_a_client_s_trace_goes_through_triton_and_the_model(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from samtrt import tracing

    for url in (server.grpc, server.http):
        trace = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        monkeypatch.setattr(tracing, "headers", lambda headers=headers: headers)
        with TritonClient(url) as client, client.upload(make_picture(70, 50)) as image:
            image.predict([[5, 5]], [1])
        # Triton writes a trace's number as text, the model as bytes.
        for number, words in (
            (trace.encode(), [b"InferRequest"]),
            (bytes.fromhex(trace), [b"samtrt.predict", b"samtrt.encode", b"samtrt.decode"]),
        ):
            wait_for(partial(server.collector.has, number, words))


def test_an_instance_that_dies_costs_its_clients_nothing_but_time(server: Running) -> None:
    """The last test here: this Triton does not start it again."""
    with ExitStack() as stack:
        client = stack.enter_context(TritonClient(server.grpc))
        images = [stack.enter_context(client.upload(make_picture(60, 90 + n))) for n in range(4)]
        expected = [image.predict([[5, 5]], [1]) for image in images]
        os.kill(server.stubs("sam")[0], signal.SIGKILL)
        for image, before in zip(images, expected, strict=True):
            np.testing.assert_array_equal(image.predict([[5, 5]], [1]).masks, before.masks)
        with client.upload(make_picture(61, 61)) as image:
            assert image.predict([[5, 5]], [1]).masks.shape == (3, 61, 61)


def test_a_model_that_died_is_told(server: Running) -> None:
    with TritonClient(server.http, model="hq") as client, client.upload(make_picture()) as image:
        (stub,) = server.stubs("hq_decoder")
        os.kill(stub, signal.SIGKILL)
        with pytest.raises(RemoteError, match=r"hq_decoder failed: .* not healthy") as caught:
            image.predict([[50, 60]], [1])
        assert caught.value.status == 500
