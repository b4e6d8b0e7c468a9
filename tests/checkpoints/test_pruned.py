"""Pruned SAMs (SlimSAM) and SAM-HQ as Hugging Face saves them, and q, k, v in three layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.models import build_sam, seed_weights
from samtrt.models.graphs import EncoderGraph
from samtrt.registry import MODELS, ViTSpec
from support.checkpoint_cases import SPEC, State, refusal
from support.oracle import official_sam

# SlimSAM-77 has heads of 14 and MLPs of 696 channels at a width of 168.
ATTENTION = "image_encoder.blocks.1.attn"
SLIM = replace(SPEC, embed_dim=42, num_heads=3, mlp_ratio=174 / 42)


@pytest.fixture(scope="module")
def state() -> State:
    sam = build_sam(SLIM)
    seed_weights(sam)
    return dict(sam.state_dict())


def split(state: State) -> State:
    """Return the same weights as SlimSAM's code names them."""
    out: State = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            for which, part in zip("qkv", tensor.chunk(3), strict=True):
                out[name.replace(".qkv.", f".{which}.")] = part
        else:
            out[name] = tensor
    return out


def configuration(module: str, kind: str) -> Any:
    import transformers

    def part(name: str) -> Any:
        return getattr(transformers, f"{kind}{name}Config")

    vision = {"embed_dim": 42, "num_heads": 3, "mlp": 174} if module == "slim" else {}
    return part("")(
        vision_config=part("Vision")(
            hidden_size=vision.get("embed_dim", SPEC.embed_dim),
            mlp_dim=vision.get("mlp", 4 * SPEC.embed_dim),
            num_hidden_layers=SPEC.depth,
            num_attention_heads=vision.get("num_heads", SPEC.num_heads),
            image_size=SPEC.image_size,
            window_size=SPEC.window_size,
            global_attn_indexes=list(SPEC.global_attn_indexes),
            output_channels=SPEC.prompt_embed_dim,
            num_pos_feats=SPEC.prompt_embed_dim // 2,
        ),
        prompt_encoder_config=part("PromptEncoder")(
            hidden_size=SPEC.prompt_embed_dim, image_size=SPEC.image_size
        ),
        mask_decoder_config=part("MaskDecoder")(
            hidden_size=SPEC.prompt_embed_dim,
            **({"vit_dim": SPEC.embed_dim} if kind == "SamHQ" else {}),
        ),
    )


def test_pruned_widths_in_hugging_faces_layout(tmp_path: Path) -> None:
    from transformers import SamModel

    model = SamModel(configuration("slim", "Sam")).eval()
    seed_weights(model)
    model.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.spec == SLIM
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got = load_sam(checkpoint).image_encoder(images)
        torch.testing.assert_close(got, model.get_image_embeddings(images), atol=1e-4, rtol=0)


def test_sam_hq_in_hugging_faces_layout(tmp_path: Path) -> None:
    from transformers import SamHQModel

    model = SamHQModel(configuration("hq", "SamHQ")).eval()
    seed_weights(model)
    model.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.spec == replace(SPEC, hq=True)
    sam = load_sam(checkpoint)
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 128, 128, generator=noise)
    points = 128 * torch.rand(2, 1, 2, generator=noise)
    padded = torch.cat([points, torch.zeros(2, 1, 2)], dim=1)
    labels = torch.tensor([[1.0, -1.0]]).expand(2, -1)
    with torch.inference_mode():
        embedding, features = EncoderGraph(sam)(images)
        _, scores = sam.decode(
            embedding, padded, labels, torch.zeros(2, 1, 32, 32), torch.zeros(2), features
        )
        found, early = model.get_image_embeddings(images)
        decoder = model.mask_decoder
        fine = decoder.encoder_conv2(F.gelu(decoder.encoder_norm(decoder.encoder_conv1(found))))
        first = decoder.compress_vit_conv1(early[0].permute(0, 3, 1, 2))
        fine = fine + decoder.compress_vit_conv2(F.gelu(decoder.compress_vit_norm(first)))
        answer = model(
            pixel_values=images,
            input_points=points[None],
            input_labels=torch.ones(1, 2, 1),
            multimask_output=False,
        )
    torch.testing.assert_close(embedding, found, atol=1e-4, rtol=0)
    torch.testing.assert_close(features, fine, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores[:, :1], answer.iou_scores[0], atol=1e-4, rtol=0)
    # Masks are compared with the official code (tests/models/test_families.py), not with these:
    # transformers 5.23 upscales the image as it was before the transformer, height for width.


HQ_WIDE = replace(SPEC, prompt_embed_dim=256, hq=True, window_size=8)  # of a grid of 8 x 8


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (HQ_WIDE, "no tensor tells which it is where windows may be as wide as the grid of 8"),
        (replace(HQ_WIDE, window_size=5, global_attn_indexes=()), "all blocks have some"),
    ],
)
def test_the_block_that_sam_hqs_decoder_looks_at_is_sure(
    spec: ViTSpec, words: str, save: Callable[[object], Path]
) -> None:
    sam = build_sam(spec)
    seed_weights(sam)
    assert words in refusal(save(sam.state_dict()))


def test_windows_as_wide_as_the_grid_are_those_of_the_published_model(
    save: Callable[[object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "small", replace(HQ_WIDE, name="small", image_size=512))
    official = official_sam(HQ_WIDE)
    seed_weights(official)
    checkpoint = load_checkpoint(save(official.state_dict()))
    assert checkpoint.spec == HQ_WIDE
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, early = load_sam(checkpoint).image_encoder.forward_early(images)
        _, theirs = official.image_encoder(images)
    torch.testing.assert_close(early, theirs[0].permute(0, 3, 1, 2), atol=1e-4, rtol=0)


def test_the_configuration_says_another_block(tmp_path: Path) -> None:
    from transformers import SamHQModel

    model = SamHQModel(configuration("hq", "SamHQ"))
    seed_weights(model)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("1\n    ],", "2\n    ],"))
    assert "vision_config.global_attn_indexes is [2], and the tensors say [1]" in refusal(tmp_path)


def test_three_layers_are_joined(state: State, save: Callable[[object], Path]) -> None:
    loaded = load_checkpoint(save(split(state)))
    assert loaded.spec == SLIM
    assert loaded.notices == ("q, k and v of 3 blocks joined into qkv",)
    assert all(torch.equal(loaded.state_dict[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("image_encoder.blocks.1.attn.k.weight"), "blocks.1.attn.k.weight is miss"),
        (
            lambda s: s.update({"image_encoder.blocks.1.attn.v.bias": torch.zeros(7)}),
            "have the shapes 42, 42, 7, not one",
        ),
        (
            lambda s: s.update({f"{ATTENTION}.{which}.bias": torch.tensor(1.0) for which in "qkv"}),
            "have the shapes a scalar, a scalar, a scalar, not one of rows",
        ),
        (
            lambda s: s.update({f"{ATTENTION}.qkv.bias": torch.ones(3 * 42)}),
            f"{ATTENTION}.qkv.bias and {ATTENTION}.q.bias, {ATTENTION}.k.bias, {ATTENTION}.v.bias "
            "are there and disagree",
        ),
    ],
)
def test_layers_that_do_not_fit(
    state: State, save: Callable[[object], Path], spoil: Callable[[State], object], words: str
) -> None:
    three = split(state)
    spoil(three)
    assert words in refusal(save(three))
