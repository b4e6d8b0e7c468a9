"""Reading masks that clients send."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from samtrt.errors import PromptError
from samtrt.masks.rle import compress, encode
from samtrt.server.masks_io import read_rle
from samtrt.server.schemas import Rle

masks = array_shapes(min_dims=2, max_dims=2, max_side=40).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


@given(masks)
def test_reads_what_pycocotools_writes(mask: np.ndarray) -> None:
    size = (mask.shape[0], mask.shape[1])
    np.testing.assert_array_equal(read_rle(Rle(**compress(encode(mask))), size), mask)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=130), max_size=60))
def test_refuses_everything_else_politely(text: str) -> None:
    try:
        mask = read_rle(Rle(size=[7, 9], counts=text), (7, 9))
    except PromptError:
        return
    assert mask.shape == (7, 9)


@pytest.mark.parametrize("counts", ["P" * 400_000, "o" * 1000, "_" * 6 + "1"])
def test_absurd_numbers(counts: str) -> None:
    with pytest.raises(PromptError):
        read_rle(Rle(size=[7, 9], counts=counts), (7, 9))
