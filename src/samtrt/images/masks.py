"""Reading a picture as a mask: whatever is not background counts, however it was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samtrt.errors import ImageError
from samtrt.images.limits import Limits
from samtrt.images.read import decode_samples, read_file
from samtrt.images.values import BYTES, Samples
from samtrt.types import BoolArray

_LOSSY = (b"\xff\xd8", b"RIFF", b"\0\0\0")
"""How JPEG, WebP and AVIF begin: around an edge, their background is nearly but not quite 0."""


def read_mask(path: str | Path, limits: Limits | None = None) -> BoolArray:
    """Read a mask, bool [H, W], upright.

    Background is 0: black, fully transparent or, in a palette, what is shown as black. All else
    is mask: 1 of 0 and 1, 100 of 0 and 100, any colour, any depth. Where a picture has alpha and
    is black all over, alpha alone is the mask.

    Raises:
        ImageError: where it cannot be read, or nothing of it or all of several values is mask, so
            that it does not say what is background.
    """
    limits = limits or Limits()
    data = read_file(path, limits)
    samples = decode_samples(data, str(path), limits)
    mask = mask_of(samples, lossy=data.startswith(_LOSSY))
    if not mask.any():
        raise ImageError(f"{path} is an empty mask: all of it is background (0)")
    if mask.all() and len(np.unique(samples.colour)) > 1:
        raise ImageError(f"{path} has no background: none of its values is 0")
    return mask


def mask_of(samples: Samples, lossy: bool) -> BoolArray:
    """Tell what is no background: bool [H, W].

    Args:
        samples: What a file holds.
        lossy: Whether values up to half of the largest may be background that compression changed.
    """
    colour, alpha = samples.colour, samples.alpha
    background: float = 0
    if samples.white_is_zero and samples.known != BYTES:
        background = float(colour.max())
    counts = colour != background
    if colour.dtype.kind == "f":
        counts &= np.isfinite(colour)
    if samples.nodata is not None:
        counts &= colour != samples.nodata
    if lossy and colour.size:
        counts = colour > colour.max() / 2
    mask = counts.any(axis=2) if counts.ndim == 3 else counts
    if alpha is None:
        return np.asarray(mask)
    visible = alpha > (float(alpha.max()) / 2 if lossy else 0)
    both = mask & visible
    # Black all over, and its shape in alpha alone.
    return np.asarray(both if both.any() or visible.all() else visible)
