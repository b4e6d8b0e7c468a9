"""A larger network that begins where a smaller one ended."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[2] / "training"))  # its scripts

from grow import GLOBAL, NEW, finer, grown, longer  # noqa: E402
from samtrt.models import build_sam  # noqa: E402
from samtrt.models.sam import seed_weights  # noqa: E402
from samtrt.registry import ViTSpec, get_spec  # noqa: E402


@torch.inference_mode()
def test_grown_weights_give_the_same_embedding_until_they_learn() -> None:
    """Of pictures of the old size: new blocks add nothing, tables stay as they are."""
    spec = get_spec("vit_s")
    assert isinstance(spec, ViTSpec)
    small = replace(spec, image_size=128)
    old = build_sam(replace(small, depth=8, global_attn_indexes=(1, 3, 5, 7)))
    seed_weights(old)
    new = build_sam(small)
    new.load_state_dict(grown(old.state_dict(), side=8), strict=True)
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(new.image_encoder(image), old.image_encoder(image))
    for index in NEW:
        assert not new.image_encoder.blocks[index].attn.proj.weight.any()
        assert new.image_encoder.blocks[index].attn.qkv.weight.any()


def test_grown_weights_fit_the_model_of_today() -> None:
    spec = get_spec("vit_s")
    assert isinstance(spec, ViTSpec)
    assert spec.global_attn_indexes == GLOBAL
    first = build_sam(replace(spec, depth=8, global_attn_indexes=(1, 3, 5, 7), image_size=512))
    second = build_sam(replace(spec, image_size=768))
    for old in (first, second):
        state = grown(old.state_dict(), spec.image_size // spec.patch_size)
        build_sam(spec).load_state_dict(state, strict=True)


def test_tables_keep_their_ends_and_their_middle() -> None:
    table = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    wide = longer(table, 13)
    torch.testing.assert_close(wide[::2], table)
    flat = torch.full((1, 4, 4, 3), 2.5)
    torch.testing.assert_close(finer(flat, 6), torch.full((1, 6, 6, 3), 2.5))
