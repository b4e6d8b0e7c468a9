"""The models that run within Triton, in its stand-in, against the predictor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.masks import rle
from samtrt.predictor import Predictor
from samtrt.triton.settings import SETTINGS_NAME, Limits
from support.fake_triton import Error, FakeTriton, Request
from support.server_cases import image_bytes, make_picture

EVERYTHING = ("image_sha256", "original_size", "rle", "iou_predictions", "masks", "low_res_logits")

Start = Callable[..., FakeTriton]


def upload(pixels: np.ndarray) -> np.ndarray:
    return np.frombuffer(image_bytes(pixels), dtype=np.uint8)


@pytest.fixture(params=["vit_t", "vit_t, hq", "sam2.1_hiera_t"])
def directory(request: pytest.FixtureRequest) -> Path:
    """Models with one map, with two, and with three."""
    names = {"vit_t": "tiny_model", "vit_t, hq": "hq_model", "sam2.1_hiera_t": "sam2_model"}
    return Path(request.getfixturevalue(names[request.param]))


@pytest.mark.parametrize("multimask", [True, False])
def test_every_output_is_the_predictors(in_triton: Start, directory: Path, multimask: bool) -> None:
    picture = make_picture()
    prompts = {
        "point_coords": [[[50.0, 60.0], [150.0, 20.0]], [[10.0, 10.0], [20.0, 30.0]]],
        "point_labels": [[1.0, 0.0], [1.0, 1.0]],
        "boxes": [[20.0, 30.0, 120.0, 100.0], [0.0, 0.0, 90.0, 90.0]],
    }
    with Predictor.load(directory) as local:
        local.set_image(picture)
        expected = local.predict_batch(**prompts, multimask_output=multimask)
        features = local.embedding.maps
    fake = in_triton(directory)
    data = upload(picture)
    sent = fake.ask(["image_sha256", "original_size", "embedding"], image=data)
    digest = sent["image_sha256"]
    assert digest.tobytes() == hashlib.sha256(data.tobytes()).digest()
    assert sent["original_size"].tolist() == [120, 200]
    numbers = np.concatenate([one.ravel() for one in features.values()])
    np.testing.assert_array_equal(sent["embedding"], numbers)

    found = fake.ask(EVERYTHING, image_sha256=digest, multimask_output=[multimask], **prompts)
    np.testing.assert_array_equal(found["masks"], expected.masks)
    np.testing.assert_array_equal(found["iou_predictions"], expected.iou_predictions)
    np.testing.assert_array_equal(found["low_res_logits"], expected.low_res_logits)
    decoded = [[rle.decode(one) for one in each] for each in json.loads(found["rle"].tobytes())]
    np.testing.assert_array_equal(decoded, expected.masks)
    assert fake.figures["samtrt_encoded_total"] == 1
    assert fake.figures["samtrt_prompts_total"] == 2
    assert not fake.logged


def test_a_mask_alone_is_a_prompt_and_specks_go(in_triton: Start, tiny_model: Path) -> None:
    picture = make_picture()
    logits = np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float32)
    fake = in_triton(tiny_model)
    with Predictor.load(tiny_model) as local:
        local.set_image(picture)
        for specks in (0, 16):
            local.specks = specks
            expected = local.predict_batch(mask_input=logits)
            found = fake.ask(
                ["rle", "masks"],
                image=upload(picture),
                mask_input=logits,
                specks=np.int32([specks]),
            )
            np.testing.assert_array_equal(found["masks"], expected.masks)
            first = json.loads(found["rle"].tobytes())[0][0]
            np.testing.assert_array_equal(rle.decode(first), expected.masks[0, 0])


def test_automatic_masks_are_the_generators(in_triton: Start, tiny_model: Path) -> None:
    options = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    picture = make_picture()
    with Predictor.load(tiny_model) as local:
        expected = AutomaticMaskGenerator(local, output_mode="coco_rle", **options).generate(
            picture
        )
    assert expected
    fake = in_triton(tiny_model)
    text = np.frombuffer(json.dumps(options).encode(), dtype=np.uint8)
    found = fake.ask(["masks"], "sam_auto", image=upload(picture), options=text)
    masks = json.loads(found["masks"].tobytes())
    assert [mask["rle"] for mask in masks] == [one["segmentation"] for one in expected]
    assert [mask["score"] for mask in masks] == [one["predicted_iou"] for one in expected]


def test_a_model_says_what_it_is(in_triton: Start, directory: Path) -> None:
    fake = in_triton(directory)
    model = json.loads(fake.ask(["model"])["model"].tobytes())
    with Predictor.load(directory) as local:
        manifest = local.manifest
    assert model["model"] == manifest.model
    assert [one["name"] for one in model["maps"]] == [one.name for one in manifest.maps]
    assert (model["platform"], model["backend"], model["device"]) == (
        "python",
        "onnxruntime",
        "cpu",
    )


IMAGE = upload(make_picture())
POINT = {"point_coords": [[[5.0, 5.0]]], "point_labels": [[1.0]]}
NONE = np.zeros((0, 1, 2))

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no image": (POINT, "no image: give image, or image_sha256"),
    "two images": ({"image": IMAGE, "image_sha256": np.zeros(32, np.uint8)}, "not both"),
    "empty image": ({"image": IMAGE[:0], **POINT}, r"the image is empty \(0 bytes\)"),
    "no picture": ({"image": IMAGE[9:], **POINT}, "not an image in a format"),
    "half a picture": ({"image": IMAGE[:500], **POINT}, "damaged or truncated"),
    "large file": ({"image": np.zeros(70_000, np.uint8), **POINT}, "70,000 bytes, more than"),
    "large picture": ({"image": upload(make_picture(200, 400)), **POINT}, "more than the limit"),
    "no prompt": ({"image": IMAGE}, "no prompt"),
    "outside": (
        {"image": IMAGE, "point_coords": [[[500.0, 5.0]]], "point_labels": [[1.0]]},
        r"point \(500, 5\) is outside the image",
    ),
    "no labels": (
        {"image": IMAGE, "point_coords": [[[5.0, 5.0]]]},
        "points and labels go together",
    ),
    "label": ({"image": IMAGE, "point_coords": [[[5.0, 5.0]]], "point_labels": [[7.0]]}, "label 7"),
    "not a number": ({"image": IMAGE, "boxes": [[0.0, 0.0, np.nan, 5.0]]}, "finite numbers"),
    "empty box": ({"image": IMAGE, "boxes": [[5.0, 5.0, 5.0, 9.0]]}, "is empty"),
    "no points": (
        {"image": IMAGE, "point_coords": NONE, "point_labels": NONE[..., 0]},
        "0 prompts",
    ),
    "counts": ({"image": IMAGE, **POINT, "boxes": [[0.0, 0.0, 9.0, 9.0]] * 2}, "the same number"),
    "prompts": ({"image": IMAGE, "boxes": [[0.0, 0.0, 9.0, 9.0]] * 9}, "9 prompts"),
    "points": (
        {"image": IMAGE, "point_coords": [[[5.0, 5.0]] * 12], "point_labels": [[1.0] * 12]},
        "12 points are more",
    ),
    "specks": ({"image": IMAGE, **POINT, "specks": np.int32([-1])}, "specks must be"),
    "answer": ({"image": IMAGE, "boxes": [[0.0, 0.0, 9.0, 9.0]] * 8}, "ask for rle instead"),
}


@pytest.fixture
def strict(in_triton: Start, fake_directory: Path) -> FakeTriton:
    """A model with no weights and narrow limits."""
    limits = Limits(
        max_upload_bytes=60_000,
        max_pixels=50_000,
        max_prompts=8,
        max_points=10,
        max_answer_bytes=500_000,
    )
    return in_triton(fake_directory, limits=limits)


@pytest.fixture(autouse=True)
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model directory has no graphs, the fake backend runs it."""
    from support import fake_runtime

    monkeypatch.setattr("samtrt.triton.stage.open_backend", fake_runtime.open_backend)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(strict: FakeTriton, name: str) -> None:
    arrays, message = WRONG[name]
    with pytest.raises(Error, match=message) as caught:
        strict.ask(["masks"], **arrays)
    assert caught.value.code == Error.INVALID_ARG
    assert "\n" not in str(caught.value)
    assert strict.ask(["masks"], image=IMAGE, **POINT)["masks"].shape == (1, 3, 120, 200)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "options: the whole text"),
        (b'{"points": 3}', "options: points: Extra"),
        (b'{"points_per_side": 1000}', "options: points_per_side"),
        (b'{"use_m2m": true}', "use_m2m is for models of SAM 2's kind"),
    ],
)
def test_wrong_options_are_told(strict: FakeTriton, text: bytes, message: str) -> None:
    with pytest.raises(Error, match=message) as caught:
        options = np.frombuffer(text, dtype=np.uint8)
        strict.ask(["masks"], "sam_auto", image=IMAGE, options=options)
    assert caught.value.code == Error.INVALID_ARG


def test_an_image_that_is_not_kept_is_not_found(strict: FakeTriton) -> None:
    with pytest.raises(Error, match="send its bytes as image") as caught:
        strict.ask(["rle"], image_sha256=np.zeros(32, np.uint8), **POINT)
    assert caught.value.code == Error.NOT_FOUND


def test_what_is_kept_is_bounded(in_triton: Start, fake_directory: Path) -> None:
    each = 256 * 16 * 16 * 4
    fake = in_triton(fake_directory, cache_bytes=3 * each)
    digests = []
    for height in range(40, 50):
        found = fake.ask(["image_sha256"], image=upload(make_picture(height, 60)))
        digests.append(found["image_sha256"])
        assert fake.figures["samtrt_cached_bytes"] <= 3 * each
    for digest in digests[-3:]:
        fake.ask(["rle"], image_sha256=digest, **POINT)
    for digest in digests[:-3]:
        with pytest.raises(Error, match="dropped"):
            fake.ask(["rle"], image_sha256=digest, **POINT)
    assert fake.figures["samtrt_evictions_total"] == 7
    assert fake.figures["samtrt_cached_images"] == 3


def test_a_broken_engine_is_no_fault_of_the_client(
    strict: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(strict.model("sam").predictor.decoder, "_compute", fails)
    with pytest.raises(Error, match="internal error: see Triton's log") as caught:
        strict.ask(["rle"], image=IMAGE, **POINT)
    assert caught.value.code == Error.INTERNAL
    assert "secret detail" in strict.logged[0]


def test_images_that_wait_together_are_encoded_together(
    in_triton: Start, fake_directory: Path
) -> None:
    fake = in_triton(fake_directory)
    encoder = fake.model("sam_encoder")
    encoder.most, sizes = 4, []

    class Many:
        inputs = encoder.backend.inputs

        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            images = feeds["images"]
            sizes.append(len(images))
            return {"image_embeddings": images[:, :1, :1, :1] * 2}

        def close(self) -> None:
            """Nothing."""

    encoder.backend = Many()
    images = [np.full((1, 3, 256, 256), n, np.float32) for n in range(6)]
    answers = encoder.execute([Request({"images": one}) for one in images])
    assert sizes == [4, 2]
    found = [answer.arrays()["image_embeddings"].item() for answer in answers]
    assert found == [2.0 * n for n in range(6)]


def test_a_version_of_another_samtrt_is_not_loaded(
    in_triton: Start, fake_directory: Path, tmp_path: Path
) -> None:
    fake = in_triton(fake_directory)
    path = tmp_path / "models" / "sam" / "1" / SETTINGS_NAME
    path.write_text(path.read_text().replace('"encoder"', '"unknown"'))
    with pytest.raises(Error, match="write the repository again with: samtrt triton"):
        fake.model("sam")
