"""verify: passes what is right and fails what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samtrt.backends import BackendOptions
from samtrt.choices import Precision
from samtrt.errors import VerificationError
from samtrt.manifest import Source
from samtrt.predictor import Predictor
from samtrt.verification.compare import THRESHOLDS, Thresholds, seeded_prompts, verify
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


@pytest.mark.parametrize(
    ("output", "change", "failure"),
    [
        ("image_embeddings", lambda x: x * np.float32(1.001), "embedding of .* off"),
        ("image_embeddings", lambda x: x * np.float32(np.nan), "embedding of .* inf off"),
        ("low_res_masks", lambda x: x + np.float32(0.05), "mean mask IoU is"),
        ("low_res_masks", lambda x: -x, "has IoU"),
        ("low_res_masks", lambda x: x * np.float32(np.nan), "mean mask IoU is"),
    ],
)
def test_wrong_engines_fail(
    pair: tuple[Predictor, Predictor], output: str, change: object, failure: str
) -> None:
    reference, candidate = pair
    spoiled = Predictor(
        Spoiled(candidate.encoder, output, change),
        Spoiled(candidate.decoder, output, change),
        candidate.manifest,
    )
    report = verify(reference, spoiled, {"wide": IMAGES["wide"]})
    assert not report.passed
    assert any(re.search(failure, text) for text in report.failures), report.failures


def test_shifted_choice_is_counted(pair: tuple[Predictor, Predictor]) -> None:
    reference, candidate = pair
    reverse = Spoiled(candidate.decoder, "iou_predictions", lambda x: -x)
    spoiled = Predictor(candidate.encoder, reverse, candidate.manifest)
    summary = verify(reference, spoiled, {"wide": IMAGES["wide"]}).as_json()["summary"]
    assert summary["choices_differing"] > 0
    assert verify(reference, candidate, IMAGES).as_json()["summary"]["choices_differing"] == 0


def test_own_thresholds(pair: tuple[Predictor, Predictor]) -> None:
    strict = Thresholds(embedding_relative=0.0, mean_iou=0.0, worst_iou=0.0)
    report = verify(*pair, {"tall": IMAGES["tall"]}, strict)
    assert [text.split()[0] for text in report.failures] == ["embedding"]
    assert THRESHOLDS[Precision.FP16].mean_iou < THRESHOLDS[Precision.FP32].mean_iou


def test_nothing_to_compare(pair: tuple[Predictor, Predictor]) -> None:
    with pytest.raises(VerificationError, match="give at least one image"):
        verify(*pair, {})
    reference, candidate = pair
    other = candidate.manifest.model_copy(update={"checkpoint": Source(name="x", sha256="1" * 64)})
    stranger = Predictor(candidate.encoder, candidate.decoder, other)
    with pytest.raises(VerificationError, match="different checkpoints"):
        verify(reference, stranger, IMAGES)
