"""Our modules against `segment-anything==1.0`, same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from samtrt.choices import AttentionForm
from samtrt.models import Sam, attention, build_sam, seed_weights
from samtrt.registry import ViTSpec, get_spec
from support.oracle import official_sam
from support.sharing import memory_kept

TOLERANCE = 1e-4
TINY = get_spec("vit_t")


def pair(spec: ViTSpec) -> tuple[Sam, torch.nn.Module]:
    ours, theirs = build_sam(spec), official_sam(spec)
    seed_weights(ours)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05, "a dead output would compare equal whatever the code does"
    assert (ours - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(TINY, id="16 tokens a side: padded to 28"),
        pytest.param(replace(TINY, image_size=224), id="14 tokens: one whole window"),
        pytest.param(replace(TINY, image_size=144), id="9 tokens: less than a window"),
        pytest.param(replace(TINY, window_size=5, image_size=208), id="13 tokens in windows of 5"),
        pytest.param(replace(TINY, global_attn_indexes=()), id="windows only"),
        pytest.param(replace(TINY, global_attn_indexes=(0, 1, 2, 3)), id="global only"),
        pytest.param(replace(TINY, embed_dim=96, num_heads=3, mlp_ratio=2.0), id="other widths"),
    ],
)
@pytest.mark.parametrize("form", attention.ATTENTION_FORMS)
def test_encoder_gives_the_official_embedding(spec: ViTSpec, form: AttentionForm) -> None:
    ours, theirs = pair(spec)
    ours.image_encoder.set_attention_form(form)
    images = torch.randn(2, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        assert_close(ours.image_encoder(images), theirs.image_encoder(images))


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_tiles_of_any_height_give_the_official_embedding(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TINY
    grid = spec.embedding_size  # global attention over 16 rows: in tiles of 3 and 5, a rest of 1
    monkeypatch.setattr(attention, "TILE_SCORES", rows * spec.num_heads * grid**3)
    ours, theirs = pair(spec)
    ours.image_encoder.set_attention_form(AttentionForm.TILED)
    images = torch.randn(1, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        assert_close(ours.image_encoder(images), theirs.image_encoder(images))


@pytest.mark.slow
def test_blocks_of_vit_b_give_the_official_embedding() -> None:
    """One block of windows and one of the whole image, of the true widths on the true image.

    The other ten repeat these two; how many there are and which are which is in the shapes that
    `test_state_dict_names_and_shapes_are_the_official_ones` compares.
    """
    ours, theirs = pair(replace(get_spec("vit_b"), depth=2, global_attn_indexes=(1,)))
    ours.image_encoder.set_attention_form(AttentionForm.MASK)
    images = torch.randn(1, 3, 1024, 1024)
    with memory_kept(), torch.inference_mode():
        assert_close(ours.image_encoder(images), theirs.image_encoder(images))


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_state_dict_names_and_shapes_are_the_official_ones(name: str) -> None:
    with torch.device("meta"):
        ours = build_sam(get_spec(name)).state_dict()
        theirs = official_sam(get_spec(name)).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize(
    ("points", "boxes", "masks"),
    [
        (points, boxes, masks)
        for points in (0, 1, 4)
        for boxes in (False, True)
        for masks in (False, True)
        if points or boxes or masks
    ],
)
def test_prompts_and_decoder_give_the_official_masks(points: int, boxes: bool, masks: bool) -> None:
    ours, theirs = pair(TINY)
    torch.manual_seed(points)
    prompts, size, mask_size = 3, TINY.image_size, TINY.mask_size
    coords = torch.rand(prompts, points, 2) * size
    labels = torch.arange(prompts * points).reshape(prompts, points) % 2
    near = torch.rand(prompts, 2) * size / 2
    box = torch.cat([near, near + size / 3], dim=1) if boxes else None
    mask = torch.randn(prompts, 1, mask_size, mask_size) * 5 if masks else None
    embedding = torch.randn(1, 256, TINY.embedding_size, TINY.embedding_size)

    with torch.inference_mode():
        sparse, dense = theirs.prompt_encoder((coords, labels) if points else None, box, mask)
        expected, expected_iou = theirs.mask_decoder.predict_masks(
            embedding, theirs.prompt_encoder.get_dense_pe(), sparse, dense
        )
        # The rule of padding is samtrt.preparation.prompts'; here it is applied by hand.
        if box is not None:
            coords = torch.cat([coords, box.reshape(prompts, 2, 2)], dim=1)
            labels = torch.cat([labels, torch.tensor([[2, 3]] * prompts)], dim=1)
        elif points:
            coords = torch.cat([coords, torch.zeros(prompts, 1, 2)], dim=1)
            labels = torch.cat([labels, -torch.ones(prompts, 1)], dim=1)
        got, got_iou = ours.decode(
            embedding,
            coords,
            labels.float(),
            mask if mask is not None else torch.zeros(prompts, 1, mask_size, mask_size),
            torch.full((prompts,), float(masks)),
        )
    assert_close(got, expected)
    assert_close(got_iou, expected_iou)


def test_dense_position_encoding_is_the_official_one() -> None:
    ours, theirs = pair(TINY)
    with torch.inference_mode():
        assert_close(ours.prompt_encoder.dense_pe(), theirs.prompt_encoder.get_dense_pe())


def test_absent_mask_may_hold_anything() -> None:
    ours, _ = pair(TINY)
    grid, size = TINY.embedding_size, TINY.mask_size
    inputs = torch.randn(1, 256, grid, grid), torch.rand(2, 3, 2) * 256, torch.ones(2, 3)
    with torch.inference_mode():
        zeros = ours.decode(*inputs, torch.zeros(2, 1, size, size), torch.zeros(2))
        junk = ours.decode(*inputs, torch.full((2, 1, size, size), 1e6), torch.zeros(2))
    for a, b in zip(zeros, junk, strict=True):
        assert torch.equal(a, b)
