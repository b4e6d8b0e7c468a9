"""Reading masks that clients send; `tests/masks/test_rle.py` has what their run lengths may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.errors import PromptError
from samtrt.masks.logits import logits_from_mask
from samtrt.masks.rle import compress, encode
from samtrt.server.untrusted import read_masks
from support.samples import make_manifest

FRAME = make_manifest().frame((7, 9))


def test_gives_the_logits_of_the_mask() -> None:
    mask = np.zeros((7, 9), dtype=np.bool_)
    mask[2:5, 1:8] = True
    (logits,) = read_masks([([7, 9], str(compress(encode(mask))["counts"]))], FRAME)
    np.testing.assert_array_equal(logits, logits_from_mask(mask, FRAME))


@given(st.text(st.characters(min_codepoint=40, max_codepoint=130), max_size=60))
def test_refuses_everything_else_politely(text: str) -> None:
    try:
        (logits,) = read_masks([([7, 9], text)], FRAME)
    except PromptError:
        return
    assert logits.shape == (1, FRAME.mask_size, FRAME.mask_size)


@pytest.mark.parametrize("counts", ["P" * 400_000, "o" * 1000, "_" * 6 + "1"])
def test_absurd_numbers(counts: str) -> None:
    with pytest.raises(PromptError):
        read_masks([([7, 9], counts)], FRAME)
