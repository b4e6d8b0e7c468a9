"""A model with two maps behind the server: they are sent, cut by the client, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from samtrt.choices import MaskChoice
from samtrt.client import Client
from samtrt.masks import rle
from support.samples import make_manifest
from support.server_cases import Served, live

MAPS = (
    {"name": "image_embeddings", "shape": (256, 16, 16)},
    {"name": "hq_features", "shape": (32, 64, 64)},
)
MODEL = make_manifest(maps=MAPS, mask_choice=MaskChoice.BEST)
COUNT = 256 * 16 * 16 + 32 * 64 * 64


def test_maps_follow_one_another(serve: Callable[..., Served], picture: np.ndarray) -> None:
    served = serve(MODEL)
    model = served.client.get("/v1/model").json()
    assert [one["shape"] for one in model["maps"]] == [[256, 16, 16], [32, 64, 64]]
    assert model["mask_choice"] == "best"
    image = served.add(picture)
    expected = served.predictor.encode(picture)
    for dtype in ("float32", "float16"):
        response = served.client.get(f"/v1/images/{image}/embedding", params={"dtype": dtype})
        assert response.headers["X-Shape"] == "1,256,16,16;1,32,64,64"
        got = np.frombuffer(response.content, dtype)
        wanted = np.concatenate([one.ravel() for one in expected.maps.values()])
        np.testing.assert_array_equal(got, wanted.astype(dtype))


def test_the_client_gets_them_back(serve: Callable[..., Served], picture: np.ndarray) -> None:
    served = serve(MODEL)
    served.predictor.set_image(picture)
    with live(served.app) as url, Client(url) as client, client.upload(picture) as image:
        embedding = image.embedding()
        served.predictor.set_embedding(embedding)
        for name, one in served.predictor.encode(picture).maps.items():
            np.testing.assert_array_equal(embedding.maps[name], one)
        for several in (True, False):
            got = image.predict([[90, 60]], [1], multimask_output=several)
            wanted = served.predictor.predict([[90, 60]], [1], multimask_output=several)
            assert len(got.masks) == 1, "the best of three, or the one"
            for mine, other in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(mine, other)


def test_the_best_of_three_answers(serve: Callable[..., Served], picture: np.ndarray) -> None:
    served = serve(MODEL)
    image = served.add(picture)
    counts = {}
    for candidates in (1, 3, 4):
        answer = served.masks(image, {"points": [[90, 60]]}, candidates=candidates).json()
        counts[candidates] = [round(mask["score"], 2) for mask in answer["results"][0]["masks"]]
    assert counts == {1: [0.9], 3: [0.95], 4: [0.9, 0.95]}


def test_all_bytes_count_and_come_back_from_disk(
    serve: Callable[..., Served], picture: np.ndarray, tmp_path
) -> None:
    served = serve(MODEL, cache_bytes=int(1.5 * 4 * COUNT), spill_dir=tmp_path)
    first, second = served.add(picture), served.add(picture[::-1])
    assert [path.stat().st_size for path in tmp_path.glob("*/*.embedding")] == [4 * COUNT]
    served.predictor.set_image(picture)
    wanted = served.predictor.predict([[90, 60]], [1]).masks[0]
    answer = served.masks(first, {"points": [[90, 60]]}).json()
    np.testing.assert_array_equal(rle.decode(answer["results"][0]["masks"][0]["rle"]), wanted)
    assert second
