"""What the API promises, compared with the predictor called directly."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samtrt.client import Client
from samtrt.manifest import Manifest
from samtrt.masks import rle
from samtrt.masks.logits import box_of_mask, mask_iou
from samtrt.predictor import Predictor
from support.samples import make_video_manifest
from support.server_cases import Gated, live, wait_for

POINT = {"points": [[50, 60]], "labels": [1]}
BOX = {"box": [20, 30, 120, 100]}
BOTH = {"points": [[60, 60], [100, 90]], "labels": [1, 0], "box": [20, 30, 150, 110]}


def direct(predictor: Predictor, picture: np.ndarray, prompt: dict[str, Any], **more: Any) -> Any:
    bound = predictor.bind(predictor.encode(picture))
    return bound.predict(prompt.get("points"), prompt.get("labels"), prompt.get("box"), **more)


def test_an_upload_tells_id_and_size(served: Any, picture: np.ndarray) -> None:
    answer = served.upload(picture).json()
    assert (answer["width"], answer["height"]) == (200, 120)
    assert len(answer["id"]) >= 22  # 128 random bits
    assert 0 <= answer["encode_ms"] <= answer["total_ms"]


def test_a_form_is_as_good_as_raw_bytes(served: Any, picture: np.ndarray) -> None:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    form = served.client.post("/v1/images", files={"file": ("x.png", out.getvalue())})
    assert form.status_code == 201
    raw = served.add(picture)
    first, second = (
        served.client.get(f"/v1/images/{image_id}/embedding").content
        for image_id in (form.json()["id"], raw)
    )
    assert first == second


@pytest.mark.parametrize("prompt", [POINT, BOX, BOTH])
def test_masks_are_those_of_the_predictor(
    served: Any, picture: np.ndarray, prompt: dict[str, Any]
) -> None:
    answer = served.masks(served.add(picture), prompt).json()
    expected = direct(served.predictor, picture, prompt)
    (result,) = answer["results"]
    assert len(result["masks"]) == 3
    for got, mask, score in zip(result["masks"], *expected[:2], strict=True):
        np.testing.assert_array_equal(rle.decode(got["rle"]), mask)
        assert got["score"] == pytest.approx(float(score))
        assert got["area"] == np.count_nonzero(mask)
        assert got["bbox"] == list(box_of_mask(mask))


def test_many_prompts_come_back_in_order(served: Any, picture: np.ndarray) -> None:
    prompts = [POINT, BOX, BOTH, {"points": [[150, 20]]}, {"box": [1, 1, 9, 9]}]
    answer = served.masks(served.add(picture), *prompts, candidates=1).json()
    for result, prompt in zip(answer["results"], prompts, strict=True):
        labels = prompt.get("labels", [1] if "points" in prompt else None)
        expected = direct(
            served.predictor, picture, {**prompt, "labels": labels}, multimask_output=False
        )
        np.testing.assert_array_equal(rle.decode(result["masks"][0]["rle"]), expected.masks[0])


def test_candidates_and_best_only(served: Any, picture: np.ndarray) -> None:
    image_id = served.add(picture)

    def scores(**options: Any) -> list[float]:
        masks = served.masks(image_id, POINT, **options).json()["results"][0]["masks"]
        return [round(mask["score"], 2) for mask in masks]

    assert scores(candidates=4) == [0.9, 0.95, 0.85, 0.8]
    assert scores(candidates=3) == [0.95, 0.85, 0.8]
    assert scores(candidates=1) == [0.9]
    assert scores(candidates=4, best_only=True) == [0.95]


def test_png_holds_the_same_mask(served: Any, picture: np.ndarray) -> None:
    image_id = served.add(picture)
    png = served.masks(image_id, BOX, candidates=1, format="png").json()
    as_rle = served.masks(image_id, BOX, candidates=1).json()
    mask = png["results"][0]["masks"][0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(mask["png"]))))
    assert set(np.unique(pixels)) == {0, 255}
    np.testing.assert_array_equal(pixels > 0, rle.decode(as_rle["results"][0]["masks"][0]["rle"]))
    assert "rle" not in mask


def test_smaller_masks_are_those_of_the_image(served: Any, picture: np.ndarray) -> None:
    image_id = served.add(picture)
    prompt = {"points": [[90, 60]], "labels": [1]}
    whole, small = (
        served.masks(image_id, prompt, longest_side=side).json()["results"][0]["masks"]
        for side in (None, 64)
    )
    for full, less in zip(whole, small, strict=True):
        assert less["score"] == full["score"]
        assert less["rle"]["size"] == [38, 64]  # of 120 x 200
        mask, reduced = (rle.decode(one["rle"]) for one in (full, less))
        assert reduced.sum() == less["area"] > 0
        rows, columns = (np.arange(38) + 0.5) * 120 / 38, (np.arange(64) + 0.5) * 200 / 64
        assert mask_iou(mask[np.ix_(rows.astype(int), columns.astype(int))], reduced) > 0.9
    (same,) = served.masks(image_id, prompt, longest_side=4096).json()["results"]
    assert same["masks"] == whole


def test_logits_of_an_answer_start_the_next(served: Any, picture: np.ndarray) -> None:
    image_id = served.add(picture)
    first = served.masks(image_id, BOX, candidates=1, format="none", low_res_logits=True).json()
    logits = first["results"][0]["masks"][0]["low_res_logits"]
    expected = direct(served.predictor, picture, BOX, multimask_output=False)
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(logits), "<f4").reshape(1, 64, 64), expected.low_res_logits
    )
    # The fake decoder answers a mask prompt with the mask itself.
    again = served.masks(image_id, {"low_res_logits": logits}, candidates=1).json()
    np.testing.assert_array_equal(
        rle.decode(again["results"][0]["masks"][0]["rle"]), expected.masks[0]
    )


def test_a_mask_can_be_a_prompt(served: Any, picture: np.ndarray) -> None:
    image_id = served.add(picture)
    mask = served.masks(image_id, BOX, candidates=1).json()["results"][0]["masks"][0]
    again = served.masks(image_id, {"mask": mask["rle"]}, candidates=1).json()
    assert again["results"][0]["masks"][0]["area"] == pytest.approx(mask["area"], rel=0.05)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_embedding_is_the_encoders(served: Any, picture: np.ndarray, dtype: str) -> None:
    image_id = served.add(picture)
    response = served.client.get(f"/v1/images/{image_id}/embedding", params={"dtype": dtype})
    shape = tuple(map(int, response.headers["x-shape"].split(",")))
    got = np.frombuffer(response.content, dtype).reshape(shape)
    expected = served.predictor.encode(picture)
    np.testing.assert_array_equal(got, expected.features.astype(dtype))
    assert response.headers["x-original-size"] == "120,200"
    assert response.headers["x-input-size"] == ",".join(map(str, expected.frame.resized))


def test_exif_orientation_is_applied(served: Any, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", exif=exif)
    response = served.client.post(
        "/v1/images", content=out.getvalue(), headers={"Content-Type": "image/jpeg"}
    )
    assert (response.json()["width"], response.json()["height"]) == (120, 200)


def test_a_deleted_image_is_unknown(served: Any, picture: np.ndarray) -> None:
    image_id = served.add(picture)
    assert served.client.delete(f"/v1/images/{image_id}").status_code == 204
    assert served.client.delete(f"/v1/images/{image_id}").status_code == 404
    assert served.masks(image_id, POINT).status_code == 404


def test_the_decoder_graph_is_sent_once(serve: Callable[..., Any], fake_directory: Path) -> None:
    served = serve(model=Manifest.load(fake_directory), directory=fake_directory)
    info = served.client.get("/v1/model").json()
    response = served.client.get(info["decoder"]["url"])
    assert response.content == (fake_directory / "decoder.onnx").read_bytes()
    assert info["decoder"]["sha256"] in response.headers["etag"]
    again = served.client.get(
        info["decoder"]["url"], headers={"If-None-Match": response.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_no_decoder_graph_without_a_directory(served: Any) -> None:
    assert served.client.get("/v1/model").json()["decoder"] is None
    assert served.client.get("/v1/model/decoder.onnx").status_code == 404


def test_encodes_batch_where_the_encoder_can(serve: Callable[..., Any], manifest: Manifest) -> None:
    """What piles up behind a busy encoder runs as one batch, each image with its own result."""
    served = serve(model=manifest.model_copy(update={"dynamic_batch": True}), encode_batch=3)
    served.encoder.open.clear()
    images = [np.full((40, 60, 3), 40 * i, dtype=np.uint8) for i in range(7)]
    with ThreadPoolExecutor(7) as pool:
        futures = [pool.submit(served.add, images[0])]
        served.encoder.entered.acquire()
        futures += [pool.submit(served.add, image) for image in images[1:]]
        wait_for(lambda: len(served.app.state.scheduler._encodes._waiting) == 6)
        served.encoder.open.set()
        ids = [future.result(30) for future in futures]
    assert served.encoder.batches == [1, 3, 3]
    for image_id, image in zip(ids, images, strict=True):
        got = served.client.get(f"/v1/images/{image_id}/embedding").content
        assert got == served.predictor.encode(image).features.tobytes()


def test_prompts_of_different_requests_share_a_decoder_call(
    serve: Callable[..., Any], picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same image, same number of points, on a device that gains: one call, each its own masks."""
    monkeypatch.setattr(Gated, "device", "cuda:0")
    served = serve(decode_workers=1)
    image_id, other = served.add(picture), served.add(picture[:, ::-1].copy())
    asked = [(image_id, {"points": [[20 * i + 10, 60]], "labels": [1]}) for i in range(5)] + [
        (image_id, BOTH),
        (other, POINT),
    ]
    served.decoder.open.clear()
    with ThreadPoolExecutor(len(asked)) as pool:
        futures = [pool.submit(served.masks, *asked[0], candidates=1)]
        served.decoder.entered.acquire()
        futures += [pool.submit(served.masks, *pair, candidates=1) for pair in asked[1:]]
        wait_for(lambda: len(served.app.state.scheduler._decodes._waiting) == len(asked) - 1)
        served.decoder.open.set()
        answers = [future.result(30).json() for future in futures]
    assert sorted(served.decoder.batches) == [1, 1, 1, 4]
    for (_, prompt), answer in zip(asked, answers, strict=True):
        expected = direct(served.predictor, picture, prompt, multimask_output=False).masks[0]
        got = rle.decode(answer["results"][0]["masks"][0]["rle"])
        np.testing.assert_array_equal(got, expected)


def test_automatic_masks_are_the_generators(served: Any, picture: np.ndarray) -> None:
    from samtrt.automatic.generator import AutomaticMaskGenerator

    options = {"points_per_side": 6, "box_nms_thresh": 0.5, "stability_score_thresh": 0.2}
    response = served.client.post(f"/v1/images/{served.add(picture)}/auto", json=options)
    expected = AutomaticMaskGenerator(served.predictor, **options).generate(picture)
    masks = response.json()["masks"]
    assert len(masks) == len(expected) > 5
    for got, record in zip(masks, expected, strict=True):
        mask = rle.decode(got["rle"])
        np.testing.assert_array_equal(mask, record["segmentation"])
        assert got["bbox"] == list(box_of_mask(mask))
        assert got["area"] == record["area"]
        assert got["score"] == pytest.approx(record["predicted_iou"])
        assert got["point"] == record["point_coords"][0]


SAM2_WAYS: list[dict[str, Any]] = [
    {"use_m2m": True},
    {"multimask_output": False},
    {"use_m2m": True, "multimask_output": False},
]


@pytest.mark.parametrize("way", SAM2_WAYS, ids="-".join)
def test_sam2s_automatic_masks_are_the_generators(
    serve: Callable[..., Any], picture: np.ndarray, way: dict[str, Any]
) -> None:
    from samtrt.automatic.generator import AutomaticMaskGenerator

    served = serve(make_video_manifest(video=None, files={}))
    options = {"points_per_side": 4, "box_nms_thresh": 1.0, **way}
    wanted = AutomaticMaskGenerator(served.predictor, **options).generate(picture)
    assert len(wanted) == 16 * (3 if way.get("multimask_output", True) else 1)
    with live(served.app) as url, Client(url) as client, client.upload(picture) as image:
        found = image.auto(**options)
    for got, record in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got["segmentation"], record["segmentation"])
        assert got["score"] == pytest.approx(record["predicted_iou"])


@pytest.mark.parametrize("way", SAM2_WAYS, ids="-".join)
def test_sam2s_automatic_masks_are_refused_for_a_sam(
    served: Any, picture: np.ndarray, way: dict[str, Any]
) -> None:
    response = served.client.post(f"/v1/images/{served.add(picture)}/auto", json=way)
    assert response.status_code == 422
    message = response.json()["error"]["message"]
    assert "is for models of SAM 2's kind" in message
    assert "\n" not in message


def test_automatic_masks_need_no_options(served: Any, picture: np.ndarray) -> None:
    response = served.client.post(f"/v1/images/{served.add(picture)}/auto")
    assert response.status_code == 200
    own = served.predictor.manifest.automatic
    assert response.json()["pred_iou_thresh"] == own.pred_iou
    assert response.json()["stability_score_thresh"] == own.stability


def test_smaller_automatic_masks_are_found_by_the_same_points(
    served: Any, picture: np.ndarray
) -> None:
    image_id = served.add(picture)
    options = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    full, less = (
        served.client.post(
            f"/v1/images/{image_id}/auto", json={**options, "longest_side": side}
        ).json()["masks"]
        for side in (None, 100)
    )
    assert {tuple(one["rle"]["size"]) for one in less} == {(60, 100)}
    assert [one["point"] for one in less] == [pytest.approx(one["point"]) for one in full]


def test_health_and_figures(served: Any, picture: np.ndarray) -> None:
    assert served.client.get("/healthz").json() == {"status": "ok"}
    assert served.client.get("/readyz").json() == {"status": "ready"}
    image_id = served.add(picture)
    text = served.client.get("/metrics").text
    assert 'samtrt_requests_total{method="POST",route="/v1/images",status="201"} 1.0' in text
    assert "samtrt_cached_images 1.0" in text
    assert image_id not in text


def test_every_operation_is_documented(served: Any) -> None:
    schema = served.client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/images",
        "/v1/images/{image_id}",
        "/v1/images/{image_id}/masks",
        "/v1/images/{image_id}/auto",
        "/v1/images/{image_id}/embedding",
        "/v1/model",
        "/v1/model/decoder.onnx",
        "/v1/videos",
        "/v1/videos/{video_id}",
        "/v1/videos/{video_id}/frames/{frame}",
        "/v1/videos/{video_id}/masks",
        "/v1/videos/{video_id}/objects/{object_id}",
        "/v1/videos/{video_id}/prompts",
        "/v1/videos/{video_id}/prompts/{frame}/{object_id}",
        "/v1/videos/{video_id}/track",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    for name in ("MasksRequest", "MasksAnswer", "ImageAnswer", "AutoRequest", "ErrorAnswer"):
        assert schema["components"]["schemas"][name]["examples"]


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/static/style.css"])
def test_the_page_is_served(served: Any, path: str) -> None:
    response = served.client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] in (
        "text/html",
        "text/javascript",
        "text/css",
    )


def test_webassembly_has_its_type_and_may_be_kept(served: Any) -> None:
    from samtrt_page import STATIC

    (path,) = STATIC.glob("ort/*/ort-wasm-simd-threaded.wasm.gz")
    url = f"/static/{path.relative_to(STATIC).as_posix().removesuffix('.gz')}"
    for encoding in ("gzip", "identity"):
        response = served.client.get(url, headers={"Accept-Encoding": encoding})
        assert response.headers["content-type"] == "application/wasm"
        assert "immutable" in response.headers["cache-control"]
        assert response.content.startswith(b"\0asm")  # the client undoes gzip


def test_specks_are_removed_for_who_asks(served: Any, picture: np.ndarray) -> None:
    image_id, logits = served.add(picture), np.full((64, 64), -8, dtype="<f4")
    logits[10:30, 10:30] = logits[3, 20] = 8
    prompt = {"low_res_logits": base64.b64encode(logits.tobytes()).decode()}
    areas = [
        served.masks(image_id, prompt, candidates=1, **more).json()["results"][0]["masks"][0]
        for more in ({}, {"specks": 4}, {"specks": 0})
    ]
    assert areas[0] == areas[2]
    assert areas[1]["area"] < areas[0]["area"]
    assert areas[1]["bbox"][1] > areas[0]["bbox"][1]
    assert served.masks(image_id, prompt, specks=-1).status_code == 422
    for specks in (0, 20):
        auto = served.client.post(
            f"/v1/images/{image_id}/auto", json={"points_per_side": 2, "specks": specks}
        )
        assert auto.status_code == 200
