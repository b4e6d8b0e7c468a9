"""What plugins of annotation tools stand on: masks of images that come as bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.backends.fake import FakeBackend
from samtrt.choices import Stage
from samtrt.errors import ImageError, PromptError
from samtrt.interactive import Segmenter
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.server.settings import Settings
from support.server_cases import Served, image_bytes, live, make_picture

PROMPTS: list[dict[str, Any]] = [
    {"point_coords": [[60, 50]], "point_labels": [1]},
    {"point_coords": [[60, 50], [120, 70]], "point_labels": [1, 0]},
    {"box": [20, 30, 120, 100]},
    {"box": [20, 30, 120, 100], "point_coords": [[60, 50]], "point_labels": [0]},
]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every image that the fake encoder has encoded."""
    seen: list[Any] = []
    compute = FakeBackend._compute

    def counted(self: FakeBackend, feeds: Any) -> Any:
        if self._stage is Stage.ENCODER:
            seen.append(feeds)
        return compute(self, feeds)

    monkeypatch.setattr(FakeBackend, "_compute", counted)
    return seen


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_mask_is_the_predictors(
    fake_directory: Path, fake_predictor: Predictor, prompt: dict[str, Any]
) -> None:
    picture = make_picture()
    fake_predictor.set_image(picture)
    alone = prompt is PROMPTS[0]
    expected = fake_predictor.predict(**prompt, multimask_output=alone)
    with Segmenter(fake_directory) as segmenter:
        found = segmenter.segment(image_bytes(picture), **prompt)
    np.testing.assert_array_equal(found.mask, expected.best)
    assert found.score == expected.iou_predictions.max()
    assert found.mask.any()


def test_a_server_gives_the_same(manifest: Manifest, fake_directory: Path) -> None:
    data = image_bytes(make_picture())
    served = Served(manifest, Settings(token="secret"))
    with (
        live(served.app) as url,
        Segmenter(url, token="secret") as remote,
        Segmenter(fake_directory) as local,
    ):
        assert remote.size_of(data) == local.size_of(data) == (120, 200)
        for prompt in PROMPTS:
            ours, theirs = local.segment(data, **prompt), remote.segment(data, **prompt)
            np.testing.assert_array_equal(ours.mask, theirs.mask)
            assert ours.score == pytest.approx(theirs.score)
        assert sum(served.encoder.batches) == 1


def test_an_image_is_encoded_once_while_it_is_among_the_last(
    fake_directory: Path, encoded: list[Any]
) -> None:
    one, two, three = (image_bytes(make_picture(40, width)) for width in (50, 60, 70))
    with Segmenter(fake_directory, images=2) as segmenter:
        for data, count in [(one, 1), (two, 2), (one, 2), (three, 3), (one, 3), (two, 4)]:
            segmenter.segment(data, [[5, 5]], [1])
            assert len(encoded) == count


def test_what_is_no_picture_is_refused_and_not_kept(fake_directory: Path) -> None:
    with Segmenter(fake_directory) as segmenter:
        for _ in range(2):
            with pytest.raises(ImageError):
                segmenter.segment(b"no picture", [[5, 5]], [1])
        with pytest.raises(PromptError):
            segmenter.segment(image_bytes(make_picture()))


def test_the_environment_names_the_model(fake_directory: Path) -> None:
    named = {"SAMTRT_MODEL": str(fake_directory), "SAMTRT_IMAGES": "3", "SAMTRT_DEVICE": ""}
    with Segmenter.from_environment(named) as segmenter:
        assert segmenter.size_of(image_bytes(make_picture())) == (120, 200)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (lambda named: named.pop("SAMTRT_MODEL"), "SAMTRT_MODEL"),
        (lambda named: named.update(SAMTRT_IMAGES="many"), "many"),
        (lambda named: named.update(SAMTRT_IMAGES="0"), "at least one"),
    ],
)
def test_an_environment_that_makes_no_sense(
    fake_directory: Path, changes: Callable[[dict[str, str]], Any], word: str
) -> None:
    named = {"SAMTRT_MODEL": str(fake_directory)}
    changes(named)
    with pytest.raises(PromptError, match=word):
        Segmenter.from_environment(named)
