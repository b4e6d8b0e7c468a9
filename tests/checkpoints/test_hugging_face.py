from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.models import seed_weights
from support.checkpoint_cases import SPEC, equal, refusal
from support.oracle import official_sam


@pytest.fixture(scope="module")
def hf_model() -> Any:
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=SPEC.embed_dim,
            num_hidden_layers=SPEC.depth,
            num_attention_heads=SPEC.num_heads,
            image_size=SPEC.image_size,
            window_size=SPEC.window_size,
            global_attn_indexes=list(SPEC.global_attn_indexes),
            output_channels=SPEC.prompt_embed_dim,
            num_pos_feats=SPEC.prompt_embed_dim // 2,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=SPEC.prompt_embed_dim, image_size=SPEC.image_size
        ),
        mask_decoder_config=SamMaskDecoderConfig(hidden_size=SPEC.prompt_embed_dim),
    )
    model = SamModel(config).eval()
    seed_weights(model)
    return model


def save_hf(model: Any, directory: Path, how: str) -> Path:
    if how == "state dict":
        torch.save(model.state_dict(), directory / "hf.pth")
        return directory / "hf.pth"
    if how == "bin":
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
        return directory
    model.save_pretrained(directory, max_shard_size="500KB" if how == "sharded" else "1GB")
    return directory / "model.safetensors" if how == "file" else directory


@pytest.mark.parametrize("how", ["directory", "file", "sharded", "bin", "state dict"])
def test_hugging_face_layouts(hf_model: Any, tmp_path: Path, how: str) -> None:
    path = save_hf(hf_model, tmp_path, how)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec == SPEC
    assert checkpoint.state_dict.keys() == official_sam(SPEC).state_dict().keys()
    assert (len(list(tmp_path.glob("model-*.safetensors"))) > 1) == (how == "sharded")


def test_hugging_face_weights_give_its_results(hf_model: Any, tmp_path: Path) -> None:
    sam = load_sam(load_checkpoint(save_hf(hf_model, tmp_path, "directory")))
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 128, 128, generator=noise)
    points = 128 * torch.rand(5, 2, 2, generator=noise)
    labels = torch.tensor([[1, 0]]).expand(5, 2)
    corners = torch.tensor([[[10.0, 20.0], [90.0, 100.0]]]).expand(5, 2, 2)
    mask = 5 * torch.randn(1, 1, 32, 32, generator=noise)
    with torch.inference_mode():
        embeddings = sam.image_encoder(images)
        expected = hf_model.get_image_embeddings(images)
        torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=0)
        for boxes, masks in ((False, False), (True, False), (True, True)):
            # Without a box the official code pads the points with one of label -1.
            tail = corners if boxes else torch.zeros(5, 1, 2)
            tail_labels = torch.tensor([[2, 3] if boxes else [-1]]).expand(5, -1)
            found = sam.decode(
                embeddings,
                torch.cat([points, tail], dim=1),
                torch.cat([labels, tail_labels], dim=1),
                (mask if masks else torch.zeros_like(mask)).expand(5, -1, -1, -1),
                torch.full((5,), float(masks)),
            )
            answers = [
                hf_model(
                    image_embeddings=expected,
                    input_points=points[None],
                    input_labels=labels[None],
                    input_boxes=corners.flatten(1)[None] if boxes else None,
                    input_masks=mask if masks else None,
                    multimask_output=multimask,
                )
                for multimask in (False, True)
            ]
            for mine, name in zip(found, ("pred_masks", "iou_scores"), strict=True):
                theirs = torch.cat([answer[name][0] for answer in answers], dim=1)
                torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def test_tied_positions_that_disagree(hf_model: Any, save: Callable[[object], Path]) -> None:
    name = "prompt_encoder.shared_embedding.positional_embedding"
    state = hf_model.state_dict()
    assert "two tensors disagree" in refusal(save({**state, name: state[name] + 1}))


def test_directories_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "neither model.safetensors nor pytorch_model.bin" in refusal(tmp_path)


def test_sharded_weights_change_the_hash_when_one_shard_does(hf_model: Any, tmp_path: Path) -> None:
    path = save_hf(hf_model, tmp_path, "sharded")
    before = load_checkpoint(path).sha256
    assert load_checkpoint(path).sha256 == before
    shard = max(path.glob("model-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    assert load_checkpoint(path).sha256 != before


def test_shards_that_disagree(hf_model: Any, tmp_path: Path) -> None:
    path = save_hf(hf_model, tmp_path, "sharded")
    before = load_checkpoint(path)
    first, *_, last = sorted(path.glob("model-*.safetensors"))
    tensors = load_file(first)
    name = sorted(tensors)[0]
    held = load_file(last)
    save_file({**held, name: tensors[name]}, last)
    assert equal(load_checkpoint(path), before.state_dict)
    save_file({**held, name: tensors[name] + 1}, last)
    assert f"{last.name} and another shard disagree about {name}" in refusal(path)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "not an index"),
        ("[]", "not an index"),
        ('{"weight_map": {"a": 3}}', "not an index"),
        ('{"weight_map": {}}', "does not name files"),
        (json.dumps({"weight_map": {"a": "../secret.safetensors"}}), "its own directory"),
        (
            json.dumps({"weight_map": {"a": "model-1.safetensors"}}),
            "names model-1.safetensors, mis",
        ),
        (json.dumps({"weight_map": {"a": "x\ny"}}), r"names x\ny, missing here"),
        (
            json.dumps({"weight_map": {str(i): f"f{i:04}" for i in range(5000)}}),
            "names f0000, f0001, f0002 and 4997 more, missing here",
        ),
        (json.dumps({"weight_map": {"a": "n" * 200}}), f"names {'n' * 120}..., missing"),
    ],
    ids=lambda text: text[:40],
)
def test_indexes_that_cannot_be_followed(tmp_path: Path, index: str, said: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert said in refusal(tmp_path)
