"""verify: passes what is right and fails what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from samtrt.backends import BackendOptions
from samtrt.backends.fake import FakeBackend
from samtrt.choices import Precision, Stage
from samtrt.errors import VerificationError
from samtrt.manifest import Manifest, Source
from samtrt.predictor import Predictor
from samtrt.verification.compare import seeded_prompts, verify
from samtrt.verification.report import REDUCED, THRESHOLDS, Thresholds
from support.oracle import random_image

IMAGES = {"wide": random_image(100, 170), "tall": random_image(90, 40, seed=1)}


@pytest.fixture(scope="module")
def pair(tiny_model: Path, tiny_checkpoint: Path) -> Iterator[tuple[Predictor, Predictor]]:
    options = BackendOptions(checkpoint=tiny_checkpoint)
    with (
        Predictor.load(tiny_model, "pytorch", options) as reference,
        Predictor.load(tiny_model) as candidate,
    ):
        yield reference, candidate


def test_faithful_engines_pass(pair: tuple[Predictor, Predictor]) -> None:
    lines: list[str] = []
    report = verify(*pair, IMAGES, report=lines.append)
    assert report.passed, report.failures
    summary = json.loads(json.dumps(report.as_json()))["summary"]
    assert 0 < summary["embedding_relative"] <= 1e-4
    assert 0.999 <= summary["worst_iou"] <= summary["mean_iou"] <= 1
    assert len(lines) == len(IMAGES)
    assert {result.prompt for result in report.prompts} >= {
        "1 point",
        "3 points",
        "box",
        "box and points",
        "mask",
        "16 boxes",
    }


def test_prompts_are_seeded(pair: tuple[Predictor, Predictor]) -> None:
    reference = pair[0]
    reference.set_image(IMAGES["wide"])
    first, same, other = (seeded_prompts(reference, seed) for seed in (0, 0, 1))
    assert np.array_equal(first["16 boxes"]["boxes"], same["16 boxes"]["boxes"])
    assert not np.array_equal(first["16 boxes"]["boxes"], other["16 boxes"]["boxes"])


class Spoiled:
    """A backend whose one output is changed on the way out."""

    def __init__(self, backend: object, output: str, change: object) -> None:
        self.backend, self.output, self.change = backend, output, change

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)

    def run(self, feeds: object, on_host: bool = True) -> dict[str, object]:
        out = self.backend.run(feeds, on_host)
        if self.output in out:
            out[self.output] = self.change(out[self.output])
        return out


def nan_in_mask_0(array: np.ndarray) -> np.ndarray:
    """Spoil what no prompt of several points returns: the mask for a single one."""
    array = array.copy()
    array[:, 0] = np.nan
    return array


def one_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[-1] = np.nan
    return array


def of_another_order(scores: np.ndarray) -> np.ndarray:
    """Swap masks 1 and 2, as an engine with two outputs mixed up would."""
    return scores[:, [0, 2, 1, 3]]


EMBEDDING, LOGITS, SCORES = "image_embeddings", "low_res_masks", "iou_predictions"
WRONG = [
    (EMBEDDING, lambda x: x * np.float32(1.001), "embedding of .* off"),
    (EMBEDDING, one_nan, "embedding of .* holds NaN"),
    (LOGITS, lambda x: x + np.float32(10.5), "mean mask IoU is"),
    (LOGITS, lambda x: -x, "has IoU"),
    (LOGITS, lambda x: x * np.float32(np.nan), "mean mask IoU is"),
    (LOGITS, lambda x: x * np.float32(1000), "logits of .* off"),
    (LOGITS, one_nan, "logits of .* holds NaN"),
    (LOGITS, nan_in_mask_0, "logits of .* holds NaN"),
    (SCORES, lambda x: -x, "an IoU prediction of .* off"),
    (SCORES, lambda x: x * np.float32(0), "an IoU prediction of .* off"),
    (SCORES, lambda x: x * np.float32(1000), "an IoU prediction of .* off"),
    (SCORES, lambda x: x + np.float32(0.01), "an IoU prediction of .* off"),
    (SCORES, lambda x: x * np.float32(np.nan), "an IoU prediction of .* holds NaN"),
    (SCORES, lambda x: x * np.float32(np.inf), "an IoU prediction of .* holds NaN or inf"),
    (SCORES, one_nan, "an IoU prediction of .* holds NaN"),
    (SCORES, nan_in_mask_0, "an IoU prediction of .* holds NaN"),
    (SCORES, lambda x: -x, "pairs of IoU predictions are in another order"),
    (SCORES, lambda x: x * np.float32(0), "pairs of IoU predictions are in another order"),
    (SCORES, of_another_order, "another mask is the best of"),
]


def spread(scores: np.ndarray) -> np.ndarray:
    """Make scores that differ: the fake backend gives all prompts the same."""
    return scores + np.float32(0.01) * np.arange(scores.size, dtype=np.float32).reshape(-1, 4)


@pytest.fixture
def quick(manifest: Manifest) -> Predictor:
    """A predictor on engines that take no time."""
    encoder, decoder = (FakeBackend(manifest, stage) for stage in Stage)
    return Predictor(encoder, Spoiled(decoder, SCORES, spread), manifest)


def spoil(candidate: Predictor, output: str, change: object) -> Predictor:
    stages = (Spoiled(one, output, change) for one in (candidate.encoder, candidate.decoder))
    return Predictor(*stages, candidate.manifest)


@pytest.mark.parametrize(("output", "change", "failure"), WRONG)
def test_wrong_engines_fail(quick: Predictor, output: str, change: object, failure: str) -> None:
    assert verify(quick, quick, IMAGES).passed
    report = verify(quick, spoil(quick, output, change), IMAGES)
    assert not report.passed
    assert any(re.search(failure, text) for text in report.failures), report.failures
    json.dumps(report.as_json(), allow_nan=False)


@pytest.mark.parametrize("output", [EMBEDDING, LOGITS, SCORES])
def test_no_limit_lets_nan_pass(quick: Predictor, output: str) -> None:
    anything = Thresholds(np.inf, 0.0, 0.0, np.inf, np.inf, 1.0, 1.0)
    report = verify(quick, spoil(quick, output, one_nan), {"tall": IMAGES["tall"]}, anything)
    assert any("holds NaN" in text for text in report.failures)


@pytest.mark.parametrize("limits", [*THRESHOLDS.values(), REDUCED])
@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.9, 1.1, 1000.0, np.nan])
@pytest.mark.parametrize("output", [EMBEDDING, LOGITS, SCORES])
def test_no_precision_lets_a_wrong_output_pass(
    quick: Predictor, limits: Thresholds, factor: float, output: str
) -> None:
    wrong = spoil(quick, output, lambda x: x * np.float32(factor))
    assert not verify(quick, wrong, {"tall": IMAGES["tall"]}, limits).passed


@pytest.mark.parametrize("limits", [*THRESHOLDS.values(), REDUCED])
@pytest.mark.parametrize("change", [lambda x: x + 0.05, lambda x: x * 0 + 0.8, of_another_order])
def test_no_precision_lets_wrong_scores_pass(
    quick: Predictor, limits: Thresholds, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    wrong = spoil(quick, SCORES, lambda x: change(x).astype(np.float32))
    assert not verify(quick, wrong, {"tall": IMAGES["tall"]}, limits).passed


def test_a_real_engine_with_negated_scores_fails(pair: tuple[Predictor, Predictor]) -> None:
    reference, candidate = pair
    wrong = spoil(candidate, SCORES, lambda x: -x)
    report = verify(reference, wrong, {"tall": IMAGES["tall"]})
    assert [text.split(" of ")[0] for text in report.failures][:1] == ["an IoU prediction"]


def test_scores_are_ordered_over_all_prompts_of_a_call(quick: Predictor) -> None:
    seen: list[np.ndarray] = []

    def negated(scores: np.ndarray) -> np.ndarray:
        seen.append(scores.ravel())
        return -scores

    report = verify(quick, spoil(quick, SCORES, negated), {"tall": IMAGES["tall"]})
    boxes = next(result for result in report.prompts if result.prompt == "16 boxes")
    assert (boxes.pairs, boxes.choices) == (64 * 63 // 2, 16)
    scores = np.concatenate(seen)[-64:]  # of the last prompts, in as many runs as they took
    first, second = np.triu_indices(64, 1)
    # All pairs but ties, which are ties the other way round too.
    assert boxes.pairs_differing == np.count_nonzero(scores[first] != scores[second])
    assert boxes.pairs_differing > 0.9 * boxes.pairs
    right = verify(quick, quick, IMAGES).as_json()["summary"]
    assert right["other_order"] == right["choices_differing"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :3], "iou_predictions has the shape"),
        (lambda x: x[:, :, None], "iou_predictions has the shape"),
    ],
)
def test_outputs_of_another_shape_are_told(quick: Predictor, change: object, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        verify(quick, spoil(quick, SCORES, change), {"tall": IMAGES["tall"]})


def test_an_output_that_is_not_compared_is_told(quick: Predictor) -> None:
    more = Spoiled(quick.decoder, "none", None)
    more.outputs = {**quick.decoder.outputs, "areas": None}
    with pytest.raises(VerificationError, match=r"has the outputs .* areas, and the checkpoint"):
        verify(quick, Predictor(quick.encoder, more, quick.manifest), IMAGES)


def test_own_thresholds(quick: Predictor) -> None:
    strict = Thresholds(embedding_relative=0.0, mean_iou=0.0, worst_iou=0.0)
    report = verify(
        quick, spoil(quick, EMBEDDING, lambda x: x * np.float32(1.00001)), IMAGES, strict
    )
    assert [text.split()[0] for text in report.failures] == ["embedding"]
    assert THRESHOLDS[Precision.FP16].mean_iou < THRESHOLDS[Precision.FP32].mean_iou


def test_nothing_to_compare(quick: Predictor) -> None:
    with pytest.raises(VerificationError, match="give at least one image"):
        verify(quick, quick, {})
    other = quick.manifest.model_copy(update={"checkpoint": Source(name="x", sha256="1" * 64)})
    stranger = Predictor(quick.encoder, quick.decoder, other)
    with pytest.raises(VerificationError, match="different checkpoints"):
        verify(quick, stranger, IMAGES)
