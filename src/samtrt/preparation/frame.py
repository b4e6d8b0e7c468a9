"""Where an image lies in the model's square, and how coordinates go there and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samtrt.choices import Generation, Resize
from samtrt.types import FloatArray, Size


@dataclass(frozen=True)
class Frame:
    """One image in a square of the model: that of prompts and masks, or that of the encoder.

    Most models have one square for both.

    Attributes:
        original: (height, width) of the image as the user gave it.
        image_size: S, the side of the square.
        mask_size: M, the side of low-res logits and of the mask input.
        resize: How the image gets the square.
        generation: How prompts are completed and masks are formed.
    """

    original: Size
    image_size: int
    mask_size: int
    resize: Resize = Resize.LONGEST
    generation: Generation = Generation.SAM

    @property
    def mask_square(self) -> tuple[int, Size]:
        """The square that masks go through on their way to the image: its side, and what of it is
        the image.

        The square of SAM 2's masks is that of the low-res logits: going there changes nothing.
        """
        if self.generation is Generation.SAM2:
            return self.mask_size, (self.mask_size, self.mask_size)
        return self.image_size, self.resized

    @property
    def resized(self) -> Size:
        """(height, width) of the image in the square; the rest, right and below, is padding.

        With the longest side at S, sides are rounded as by the official `ResizeLongestSide`; one
        never becomes 0, as it would there for images more than 2S times longer than wide.
        """
        if self.resize is Resize.STRETCH:
            return self.image_size, self.image_size
        scale = self.image_size / max(self.original)
        height, width = (max(int(side * scale + 0.5), 1) for side in self.original)
        return height, width

    def to_model(self, coords: FloatArray) -> npt.NDArray[np.float64]:
        """Scale XY coordinates [..., 2] from original pixels to the square's pixels."""
        return np.multiply(coords, self._scale)

    def to_image(self, coords: FloatArray) -> npt.NDArray[np.float64]:
        """Undo `to_model`."""
        return np.divide(coords, self._scale)

    @property
    def _scale(self) -> npt.NDArray[np.float64]:
        (height, width), original = self.resized, self.original
        return np.array([width / original[1], height / original[0]])
