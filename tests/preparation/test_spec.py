"""What a preparation may say, and how a user changes one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from samtrt.choices import Resize, ResizeFilter, ValueScale
from samtrt.preparation.spec import OFFICIAL, Preparation, PreparationChanges

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SQUASHED = PreparationChanges(
    ValueScale.UNIT, (0, 0, 0), (1, 1, 1), Resize.STRETCH, ResizeFilter.BICUBIC
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"std": (1, 0, 1)}, "std above 0"),
        ({"std": (1, -1, 1)}, "std above 0"),
        ({"mean": (1, float("nan"), 1)}, "finite"),
        ({"std": (1, float("inf"), 1)}, "finite"),
        (IMAGENET, "mean 0.485, 0.456, 0.406 is of images in 0..1, and the scale is 0..255"),
        ({"scale": "0..1"}, "mean 123.675, 116.28, 103.53 is of images in 0..255"),
        ({"scale": "minmax"}, "and the scale is minmax"),
        ({"scale": "0..2"}, "0..255"),
        ({"mean": (1, 2)}, "mean"),
        ({"crop": 3}, "crop"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Preparation.model_validate(values)


def test_it_says_all_of_itself() -> None:
    assert str(OFFICIAL) == (
        "longest side to the model's, padded (bilinear); values 0..255, mean 123.675, 116.28, "
        "103.53, std 58.395, 57.12, 57.375"
    )
    assert str(SQUASHED.of(OFFICIAL)) == (
        "stretched to a square (bicubic); values 0..1, mean 0, 0, 0, std 1, 1, 1"
    )


def test_changes_leave_the_rest() -> None:
    assert PreparationChanges().of(OFFICIAL) == OFFICIAL
    changed = PreparationChanges(resize=Resize.STRETCH).of(OFFICIAL)
    assert changed == OFFICIAL.model_copy(update={"resize": Resize.STRETCH})
    assert PreparationChanges.to(changed).of(OFFICIAL) == changed


def test_values_come_together() -> None:
    with pytest.raises(ValueError, match=r"scale, mean and std go together: mean, std missing"):
        PreparationChanges(scale=ValueScale.UNIT)
    with pytest.raises(ValueError, match="scale missing"):
        PreparationChanges(mean=(0, 0, 0), std=(1, 1, 1))
