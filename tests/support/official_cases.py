"""Code for the official package, run with both packages on one checkpoint."""

from __future__ import annotations

from typing import Any

import torch

from support.oracle import random_image

IMAGE = random_image(90, 140)


def same(got: Any, expected: Any) -> None:
    """Compare arrays or tensors one by one: types, shapes, and values."""
    for ours, theirs in zip(got, expected, strict=True):
        assert type(ours) is type(theirs)
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        if ours.dtype in (bool, torch.bool):
            assert (ours != theirs).sum() <= 2
        else:
            assert abs(ours - theirs).max() <= 1e-4
