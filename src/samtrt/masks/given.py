"""A mask as a user gives it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samtrt.errors import PromptError
from samtrt.types import BoolArray


def given_mask(mask: npt.ArrayLike) -> BoolArray:
    """Return a user's mask, [H, W], true where it is not 0.

    Raises:
        PromptError: where it has another shape, or holds logits, of which all would be true.
    """
    values = np.asarray(mask)
    if values.ndim != 2 or not values.size:
        raise PromptError(f"a mask must have the shape H x W, not {values.shape}")
    if values.dtype.kind not in "biuf" or (values.dtype.kind != "b" and not (values >= 0).all()):
        raise PromptError("a mask is true where the object is: of logits give logits > 0")
    return values.astype(np.bool_)
