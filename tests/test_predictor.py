"""The predictor: against the official `SamPredictor`, and its own rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from samtrt.backends.pytorch import PyTorchBackend
from samtrt.choices import Quantization, Resize, Stage
from samtrt.decoding import select_masks
from samtrt.errors import BackendError, ImageError, PromptError
from samtrt.manifest import FileEntry, Quantized
from samtrt.masks import rle
from samtrt.models import build_sam, seed_weights
from samtrt.predictor import Predictor
from samtrt.preparation.prompts import build_prompts
from samtrt.registry import get_spec
from support.contract_cases import Places, cases_on_gpu, opened
from support.oracle import official_sam, random_image, segment_anything_oracle
from support.samples import make_manifest

SIZES = [(120, 200), (200, 120), (256, 256), (1, 1), (3, 7), (31, 1024), (5000, 3000)]


@pytest.fixture(scope="module", params=[None, *cases_on_gpu()])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Predictor, Any]]:
    """Our predictor, on PyTorch or on a GPU, and the official one on a CPU, same weights."""
    spec = get_spec("vit_t")
    ours, theirs = build_sam(spec), official_sam(spec)
    seed_weights(ours)
    theirs.load_state_dict(ours.state_dict())
    manifest = make_manifest()
    with ExitStack() as stack:
        if request.param:
            exported, checkpoint = map(request.getfixturevalue, ("exported", "tiny_checkpoint"))
            places = Places(exported, checkpoint, tmp_path_factory.mktemp("predictor"))
            stages = stack.enter_context(opened(request.param, places))
        else:
            stages = {stage: PyTorchBackend(ours, manifest, stage) for stage in Stage}
        predictor = stack.enter_context(
            Predictor(stages[Stage.ENCODER], stages[Stage.DECODER], manifest)
        )
        yield predictor, segment_anything_oracle().SamPredictor(theirs)


def prompts_for(size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    height, width = size
    centre = [(width - 1) / 2, (height - 1) / 2]
    corner = [0.0, 0.0]
    box = [width * 0.1, height * 0.2, width * 0.8, height * 0.9]
    return {
        "point": {"point_coords": [centre], "point_labels": [1]},
        "points": {"point_coords": [centre, corner], "point_labels": [1, 0]},
        "box": {"box": box, "multimask_output": False},
        "box, three masks": {"box": box},
        "box and points": {
            "box": box,
            "point_coords": [centre, corner],
            "point_labels": [1, 0],
            "multimask_output": False,
        },
    }


@pytest.mark.parametrize(
    ("size", "image_format"),
    [*(pytest.param(size, "RGB", id=f"{size}") for size in SIZES), (SIZES[0], "BGR")],
)
def test_masks_are_those_of_the_official_predictor(
    both: tuple[Predictor, Any], size: tuple[int, int], image_format: str
) -> None:
    ours, theirs = both
    image = random_image(*size)
    ours.set_image(image, image_format=image_format)
    theirs.set_image(image, image_format=image_format)
    embedding = theirs.get_image_embedding().numpy()
    assert np.abs(ours.get_image_embedding() - embedding).max() <= 1e-4

    for name, prompt in prompts_for(size).items():
        as_arrays = {k: np.array(v) if k != "multimask_output" else v for k, v in prompt.items()}
        logits, scores, low_res = theirs.predict(**as_arrays, return_logits=True)
        expected = logits > 0.0
        got = ours.predict(**prompt)
        assert np.abs(got.low_res_logits - low_res).max() <= 1e-4, name
        assert np.abs(got.iou_predictions - scores).max() <= 1e-4, name
        assert got.masks.dtype == np.bool_
        assert got.masks.shape == expected.shape
        assert 0.01 < expected.mean() < 0.99 or size == (1, 1), "nothing to compare"
        # Identical but for pixels whose logit is zero to rounding, which may fall either way.
        differs = got.masks != expected
        assert np.abs(logits[differs]).max(initial=0) <= 1e-4, name
        assert differs.mean() <= 1e-5, name


def test_mask_prompts_and_logits_are_the_official_ones(both: tuple[Predictor, Any]) -> None:
    ours, theirs = both
    image = random_image(90, 140)
    ours.set_image(image)
    theirs.set_image(image)
    _, scores, low_res = theirs.predict(np.array([[70, 45]]), np.array([1]))
    mask_input = low_res[scores.argmax()][None]
    for extra in ({}, {"point_coords": np.array([[20, 30]]), "point_labels": np.array([0])}):
        expected, _, _ = theirs.predict(mask_input=mask_input, return_logits=True, **extra)
        got = ours.predict(mask_input=mask_input, return_logits=True, **extra)
        assert got.masks.dtype == np.float32
        assert np.abs(got.masks - expected).max() <= 1e-4


def test_prompts_at_once_give_what_each_gives_alone(both: tuple[Predictor, Any]) -> None:
    ours, _ = both
    ours.set_image(random_image(120, 200))
    rng = np.random.default_rng(0)
    near = rng.uniform(0, 80, (37, 2))
    boxes = np.concatenate([near, near + rng.uniform(10, 40, (37, 2))], axis=1)
    # Three runs or more, the last one short; an engine may take fewer than 16.
    ours.prompts_per_run = min(16, ours.prompts_per_run)
    batch = ours.predict_batch(boxes=boxes, multimask_output=False)
    assert batch.masks.shape == (37, 1, 120, 200)
    for i in (0, 15, 16, 36):
        alone = ours.predict(box=boxes[i], multimask_output=False)
        assert np.abs(batch.low_res_logits[i] - alone.low_res_logits).max() <= 1e-4
        assert np.mean(batch.masks[i] != alone.masks) < 1e-3


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("least", [0.0, 0.5, 2.0], ids=["all", "some", "none"])
def test_selected_masks_are_those_of_decode(
    both: tuple[Predictor, Any], count: int, least: float
) -> None:
    ours, _ = both
    embedding = ours.encode(random_image(60, 80))
    points = np.random.default_rng(1).uniform(0, 60, (count, 1, 2))
    prompts = build_prompts(embedding.frame, points, np.ones((count, 1)))
    ours.prompts_per_run = 4
    low, all_scores = select_masks(*ours.decode(embedding, prompts), multimask_output=True)
    middle = np.quantile(all_scores, least) if least <= 1 else np.inf
    wanted = all_scores > middle if least else all_scores > -np.inf
    asked: list[int] = []

    def choose(scores: np.ndarray) -> np.ndarray:
        start = sum(asked)
        asked.append(len(scores))
        return wanted[start : start + len(scores)]

    logits, places, scores = ours.decode_wanted(embedding, prompts, choose)
    assert np.array_equal(scores, all_scores)
    assert np.array_equal(places, np.argwhere(wanted))
    assert np.array_equal(logits, low[wanted])
    assert logits.shape[1:] == (ours.manifest.mask_size,) * 2


def test_bound_predictors_share_engines_and_not_images(fake_predictor: Predictor) -> None:
    first = fake_predictor.bind(fake_predictor.encode(random_image(50, 80)))
    second = fake_predictor.bind(fake_predictor.encode(random_image(90, 30)))
    assert first.encoder is second.encoder
    assert first.predict([[10, 10]], [1]).masks.shape == (3, 50, 80)
    assert second.predict([[10, 10]], [1]).masks.shape == (3, 90, 30)
    with pytest.raises(PromptError, match="set_image"):
        fake_predictor.predict([[10, 10]], [1])


@pytest.mark.parametrize("reset", ["reset", "reset_image"])
def test_predict_needs_an_image(fake_predictor: Predictor, picture: Any, reset: str) -> None:
    with pytest.raises(PromptError, match="no image is set: call set_image"):
        fake_predictor.predict([[1, 1]], [1])
    fake_predictor.set_image(picture)
    fake_predictor.predict([[1, 1]], [1])
    getattr(fake_predictor, reset)()
    with pytest.raises(PromptError, match="no image is set"):
        fake_predictor.get_image_embedding()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"shape H x W x 3, not \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), "H x W x 3"),
        (np.zeros((4, 4, 3), np.float32), "uint8 with values 0..255, not float32"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        ([[1]], "NumPy array, not list"),
    ],
)
def test_bad_images_are_refused(fake_predictor: Predictor, image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        fake_predictor.set_image(image)


def test_unknown_channel_order_is_refused(fake_predictor: Predictor, picture: Any) -> None:
    with pytest.raises(ImageError, match="'RGB' or 'BGR', not 'GBR'"):
        fake_predictor.set_image(picture, image_format="GBR")


def test_embedding_of_another_model_is_refused(fake_predictor: Predictor, picture: Any) -> None:
    embedding = fake_predictor.encode(picture)
    fake_predictor.set_embedding(embedding)
    for changes in (
        {"features": embedding.features[:, :128]},
        {"frame": replace(embedding.frame, resize=Resize.STRETCH)},
    ):
        with pytest.raises(ImageError, match="encode the image with this model"):
            fake_predictor.set_embedding(replace(embedding, **changes))


def test_closed_predictor_says_so(fake_predictor: Predictor, picture: Any) -> None:
    fake_predictor.close()
    fake_predictor.close()
    with pytest.raises(BackendError, match="closed"):
        fake_predictor.set_image(picture)


def test_masks_are_cut_at_the_manifests_threshold(fake_predictor: Predictor, picture: Any) -> None:
    """Low-res logits of the fake backend are -10 and 10: at 20 nothing is mask."""
    fake_predictor.set_image(picture)
    assert fake_predictor.predict([[50, 50]], [1]).masks.any()
    fake_predictor.manifest = make_manifest(mask_threshold=20.0)
    assert not fake_predictor.predict([[50, 50]], [1]).masks.any()


def test_precision_is_what_the_engines_compute_in(fake_predictor: Predictor) -> None:
    assert fake_predictor.precision == "fp32"
    fake_predictor.encoder.precision = "fp16"
    assert fake_predictor.precision == fake_predictor.identity["precision"] == "fp16"
    record = Quantized(method=Quantization.DYNAMIC, float32_layers=(), images=1, mean_iou=1.0)
    encoder = FileEntry(name="encoder.onnx", size=1, sha256="1" * 64)
    fake_predictor.manifest = make_manifest(quantized=record, files={"encoder": (encoder,)})
    for own, precision in ((None, "int8 dynamic"), ("bf16", "int8 dynamic, bf16"), ("fp32",) * 2):
        fake_predictor.encoder.precision = own
        assert fake_predictor.precision == precision
    assert fake_predictor.identity["precision"] == "fp32"
    fake_predictor.encoder.precision = None
    assert fake_predictor.identity["precision"] == "int8 dynamic, 111111111111"


def test_specks_are_removed_where_asked_for(fake_predictor: Predictor, picture: Any) -> None:
    """Masks lose them in every form; the low-res logits are the decoder's own."""
    fake_predictor.set_image(picture)
    size = fake_predictor.manifest.mask_size
    prompt = np.full((1, size, size), -8, dtype=np.float32)
    prompt[0, 10:30, 10:30] = 8
    prompt[0, 3, 20] = 8
    given = {"mask_input": prompt, "multimask_output": False}
    plain = fake_predictor.predict(**given)
    tidy = fake_predictor.bind(fake_predictor.embedding)
    tidy.specks = 4
    masks, scores, low_res = tidy.predict(**given)
    assert not masks[0, :16].any()
    assert plain.masks[0, :16].any()
    np.testing.assert_array_equal(masks[0, 16:], plain.masks[0, 16:])
    np.testing.assert_array_equal(low_res, plain.low_res_logits)
    np.testing.assert_array_equal(scores, plain.iou_predictions)
    ((encoded,),), _ = tidy.predict_rle(mask_input=prompt[None], multimask_output=False)
    np.testing.assert_array_equal(rle.decode(encoded), masks[0])
