"""What a model was trained to see: how an image becomes the encoder's input.

It belongs to the model as its weights do: another mean, scale or resize gives plausible but worse
masks, and nothing fails. So it is read from the checkpoint, else said by the user, and kept in the
manifest. This module is light, so that a manifest can be read without an image library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from pydantic import BaseModel, ConfigDict, model_validator

from samtrt.choices import Resize, ResizeFilter, ValueScale

RGB = tuple[float, float, float]

SAM_MEAN: RGB = (123.675, 116.28, 103.53)
"""ImageNet's, in 0..255; official `build_sam.py`."""
SAM_STD: RGB = (58.395, 57.12, 57.375)


class Preparation(BaseModel):
    """How pixels become numbers: (value at `scale` - mean) / std, resized before.

    The defaults are those of the official SAM (`Sam.preprocess`, `ResizeLongestSide`).

    Attributes:
        scale: The range that `mean` and `std` are given in.
        mean: Of red, green and blue.
        std: As `mean`; each above 0.
        resize: How the image gets the encoder's square. Padding is 0 after normalisation.
        filter: What it is resized with.
        rounded: Whether values are whole after resizing, as those of images are; else they are
            resized as real numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: ValueScale = ValueScale.BYTE
    mean: RGB = SAM_MEAN
    std: RGB = SAM_STD
    resize: Resize = Resize.LONGEST
    filter: ResizeFilter = ResizeFilter.BILINEAR
    rounded: bool = True

    @model_validator(mode="after")
    def _values_fit_the_scale(self) -> Preparation:
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError(
                f"mean {_listed(self.mean)} and std {_listed(self.std)} must be finite numbers, "
                "std above 0"
            )
        if self.scale is ValueScale.MINMAX and not self.rounded:
            raise ValueError("the scale minmax is of whole values: leave them rounded")
        most = max(map(abs, self.mean))
        if self.scale is ValueScale.BYTE:
            # ImageNet's 0.485 on 0..255 would leave a white image at 1112.
            if 0 < most <= 1:
                raise ValueError(
                    f"mean {_listed(self.mean)} is of images in 0..1, and the scale is 0..255"
                )
        elif most > 1:
            raise ValueError(
                f"mean {_listed(self.mean)} is of images in 0..255, and the scale is "
                f"{self.scale.value}"
            )
        return self

    def __str__(self) -> str:
        resize = {
            Resize.LONGEST: "longest side to the model's, padded",
            Resize.STRETCH: "stretched to a square",
        }
        return (
            f"{resize[self.resize]} ({self.filter.value}{'' if self.rounded else ', unrounded'}); "
            f"values {self.scale.value}, "
            f"mean {_listed(self.mean)}, std {_listed(self.std)}"
        )


OFFICIAL = Preparation()
"""The official SAM's."""

SAM2 = Preparation(
    scale=ValueScale.UNIT,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    resize=Resize.STRETCH,
    rounded=False,
)
"""SAM 2's: official `utils/transforms.py`, which resizes tensors."""


@dataclass(frozen=True)
class PreparationChanges:
    """What a user says of a preparation; None leaves what the checkpoint says.

    Attributes:
        scale, mean, std: Given together, as one says nothing without the others.
        resize: As of `Preparation`.
        filter: As of `Preparation`.
    """

    scale: ValueScale | None = None
    mean: RGB | None = None
    std: RGB | None = None
    resize: Resize | None = None
    filter: ResizeFilter | None = None

    def __post_init__(self) -> None:
        values = {"scale": self.scale, "mean": self.mean, "std": self.std}
        missing = [name for name, value in values.items() if value is None]
        if missing and len(missing) < len(values):
            raise ValueError(
                f"scale, mean and std go together: {', '.join(missing)} missing (for images that "
                "are only brought to 0..1: scale 0..1, mean 0,0,0, std 1,1,1)"
            )

    @classmethod
    def to(cls, preparation: Preparation) -> PreparationChanges:
        """Return changes that leave nothing to the checkpoint."""
        return cls(**{name.name: getattr(preparation, name.name) for name in fields(cls)})

    @property
    def says_values(self) -> bool:
        """Whether scale, mean and std are given."""
        return self.scale is not None

    def of(self, base: Preparation) -> Preparation:
        """Return `base` with these changes.

        Raises:
            ValueError: where scale, mean and std contradict each other.
        """
        said = {name.name: getattr(self, name.name) for name in fields(self)}
        given = {name: value for name, value in said.items() if value is not None}
        return Preparation.model_validate(base.model_dump() | given)


def _listed(values: RGB) -> str:
    return ", ".join(f"{value:g}" for value in values)
