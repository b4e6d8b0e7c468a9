"""What flows from a model's encoder to its decoder. Without NumPy: models are listed by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

IMAGE_EMBEDDINGS = "image_embeddings"
"""Name of the map that every model's encoder gives first."""


@dataclass(frozen=True)
class FeatureMap:
    """One of the arrays that flow from a model's encoder to its decoder.

    Attributes:
        name: Of the encoder's output and of the decoder's input.
        shape: Channels, height and width, for one image.
        dtype: What its numbers are passed on in.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.isidentifier()) or min(self.shape) < 1:
            raise ValueError(f"{self.name!r} {self.shape} is not a map of features")

    @property
    def nbytes(self) -> int:
        """Bytes of one image's."""
        return math.prod(self.shape) * {"float32": 4, "float16": 2}[self.dtype]
