"""SAM 2's memory against `sam2==1.1.0`, same seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from samtrt.checkpoints.layouts import SAM2
from samtrt.export.plugin import attend_to_memories, feed_as_image
from samtrt.models import Sam, build_sam, seed_weights
from samtrt.models.rotary import Kernel, RotaryAttention, mix_values, sine_grid, sine_times
from samtrt.models.video import MemoryAttentionGraph, MemoryEncoderGraph
from samtrt.registry import HieraSpec, get_spec
from support.oracle import official_sam2

TINY = get_spec("sam2.1_hiera_t")
assert isinstance(TINY, HieraSpec)
G = TINY.embedding_size


@pytest.fixture(scope="module", params=["2.1", "2.0"])
def pair(request: pytest.FixtureRequest) -> tuple[Sam, Any]:
    spec = replace(TINY, version=request.param)
    ours, theirs = build_sam(spec), official_sam2(spec)
    seed_weights(ours)
    mine = ours.state_dict()
    theirs.load_state_dict({key: mine[SAM2.official(key)] for key in theirs.state_dict()})
    return ours, theirs


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05
    return bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())


def test_positions_are_the_official_ones(pair: tuple[Sam, Any]) -> None:
    _, theirs = pair
    for channels, encoding in (
        (256, theirs.image_encoder.neck.position_encoding),
        (64, theirs.memory_encoder.position_encoding),
    ):
        expected = encoding(torch.zeros(1, channels, G, G))
        assert (sine_grid(channels, G) - expected).abs().max() < 1e-6
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    times = torch.tensor([-3.0, 0.0, 1.0, 15.0]) / 15
    assert torch.allclose(sine_times(times, 256), get_1d_sine_pe(times, 256))


@pytest.mark.parametrize("objects", [1, 3])
def test_memory_encoder(pair: tuple[Sam, Any], objects: int) -> None:
    ours, theirs = pair
    torch.manual_seed(0)
    image, masks = torch.randn(1, 256, G, G), 5 * torch.randn(objects, 1, 4 * G, 4 * G)
    scores = torch.linspace(-1, 1, objects)
    raw = image - ours.image_encoder.no_mem_embed.reshape(1, -1, 1, 1)
    large = torch.nn.functional.interpolate(
        masks, (TINY.image_size,) * 2, mode="bilinear", align_corners=False
    )
    feats = [raw.expand(objects, -1, -1, -1).flatten(2).permute(2, 0, 1)]
    for binarize in (False, True):
        theirs.binarize_mask_from_pts_for_mem_enc = True
        with torch.inference_mode():
            expected, _ = theirs._encode_new_memory(
                feats, [(G, G)], large, scores[:, None], is_mask_from_pts=binarize
            )
            got = MemoryEncoderGraph(ours)(
                image, masks, scores, torch.full((objects,), float(binarize))
            )
        assert close(got, expected)


@pytest.mark.parametrize(
    ("kernel", "feed"),
    [(None, None), (mix_values, None), (attend_to_memories, feed_as_image)],
    ids=["PyTorch's", "mixed first", "plugin"],
)
@pytest.mark.parametrize("held", [(1, 1), (7, 16), (3, 5), (9, 2)], ids=str)
def test_memory_attention_with_empty_places(
    pair: tuple[Sam, Any],
    held: tuple[int, int],
    kernel: Kernel | None,
    feed: Callable[..., torch.Tensor] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever lies in empty places, the result is that of the official code without them."""
    ours, theirs = pair
    attentions = [module for module in ours.modules() if isinstance(module, RotaryAttention)]
    assert len(attentions) == 8
    for module in attentions:
        monkeypatch.setattr(module, "kernel", kernel)
    for layer in ours.memory.memory_attention.layers:
        monkeypatch.setattr(layer, "feed", feed)
    torch.manual_seed(1)
    objects, (memories, pointers) = 2, held
    image = torch.randn(1, 256, G, G)
    stored = torch.randn(objects, 10, 64, G, G)
    times = torch.arange(10).expand(objects, -1) % 7
    tokens, distances = torch.randn(objects, 20, 256), torch.rand(objects, 20) * 2 - 1
    has = torch.arange(10).expand(objects, -1) < memories, torch.arange(20) < pointers
    with torch.inference_mode():
        got = MemoryAttentionGraph(ours)(
            *(image, stored, times, has[0].float()),
            *(tokens, distances, has[1].expand(objects, -1).float()),
        )
        raw = image.flatten(2).permute(2, 0, 1) - theirs.no_mem_embed
        pe = theirs.memory_encoder.position_encoding(stored[:, 0]).flatten(2).permute(2, 0, 1)
        memory = [stored[:, i].flatten(2).permute(2, 0, 1) for i in range(memories)]
        places = [pe + theirs.maskmem_tpos_enc[times[0, i]] for i in range(memories)]
        small = tokens[:, :pointers].reshape(objects, -1, 64).transpose(0, 1)
        memory.append(small)
        places.append(torch.zeros_like(small))
        if theirs.proj_tpos_enc_in_obj_ptrs:
            encoded = theirs.obj_ptr_tpos_proj(sine_times(distances[:, :pointers], 256))
            places[-1] = encoded.repeat_interleave(4, dim=1).transpose(0, 1)
        encoding = theirs.image_encoder.neck.position_encoding(image)
        expected = theirs.memory_attention(
            curr=raw.expand(-1, objects, -1),
            curr_pos=encoding.flatten(2).permute(2, 0, 1).expand(-1, objects, -1),
            memory=torch.cat(memory),
            memory_pos=torch.cat(places),
            num_obj_ptr_tokens=len(small),
        )
    assert close(got, expected.permute(1, 2, 0).reshape(objects, 256, G, G))
