"""What a predictor answers, and how it shows itself in a notebook."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.masks.showing import as_png, over
from samtrt.types import BoolArray, UInt8Array


class Prediction(NamedTuple):
    """Masks of one prompt (or of P prompts, with a leading axis P), as `SamPredictor` returns them.

    A notebook shows the best mask of each prompt.

    Attributes:
        masks: bool [C, H, W] at the image's original size, or float32 logits where asked for.
        iou_predictions: float32 [C], the model's own estimate of each mask's IoU.
        low_res_logits: float32 [C, S/4, S/4], usable as `mask_input` of a next call.
    """

    masks: npt.NDArray[np.bool_ | np.float32]
    iou_predictions: npt.NDArray[np.float32]
    low_res_logits: npt.NDArray[np.float32]

    @property
    def best(self) -> BoolArray:
        """The mask of each prompt with the highest predicted IoU: bool [H, W], or [P, H, W].

        Logits become masks at 0, the threshold of every official model.
        """
        choice = self.iou_predictions.argmax(axis=-1)
        chosen = self.masks[(*np.indices(choice.shape), choice)]
        return np.asarray(chosen if chosen.dtype == np.bool_ else chosen > 0)

    def plot(self, image: UInt8Array | None = None) -> Image.Image:
        """Draw the best mask of each prompt over an image, uint8 [H, W, 3], or over grey.

        Raises:
            ImageError: where the image is not of the masks' size.
        """
        best = self.best
        return over(image, best.reshape(-1, *best.shape[-2:]), best.shape[-2:])

    def _repr_png_(self) -> bytes:
        """Return what Jupyter shows."""
        return as_png(self.plot())
