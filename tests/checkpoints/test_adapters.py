"""LoRA pairs are merged where the file says how, and refused by name where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from samtrt.checkpoints.load import load_checkpoint
from support.checkpoint_cases import SPEC, State, equal, refusal

LAYER = "image_encoder.blocks.0.attn.qkv"
DIM, RANK = SPEC.embed_dim, 4
Save = Callable[[object], Path]


def adapted(state: State, wrapped: str, a: str, b: str) -> tuple[State, State]:
    """Return the state with LoRA pairs on q and v of one block, and the merged state."""
    noise = torch.Generator().manual_seed(0)
    lora = {k.replace(f"{LAYER}.", f"{LAYER}.{wrapped}."): v for k, v in state.items()}
    merged = {**state, f"{LAYER}.weight": state[f"{LAYER}.weight"].clone()}
    for start, which in ((0, "q"), (2 * DIM, "v")):
        down = torch.randn(RANK, DIM, generator=noise)
        up = torch.randn(DIM, RANK, generator=noise)
        lora[f"{LAYER}.{a.format(which)}.weight"] = down
        lora[f"{LAYER}.{b.format(which)}.weight"] = up
        merged[f"{LAYER}.weight"][start : start + DIM] += up @ down
    return lora, merged


@pytest.mark.parametrize(
    ("wrapped", "a", "b"),
    [
        ("qkv", "linear_a_{}", "linear_b_{}"),
        ("qkv_proj", "w_a_linear_{}", "w_b_linear_{}"),
    ],
    ids=["Sam_LoRA", "micro-sam"],
)
def test_pairs_on_qkv_are_merged(save: Save, state: State, wrapped: str, a: str, b: str) -> None:
    lora, merged = adapted(state, wrapped, a, b)
    before = {name: tensor.clone() for name, tensor in lora.items()}
    checkpoint = load_checkpoint(save({"model": lora}))
    assert equal(checkpoint, merged)
    assert checkpoint.notices == ("2 LoRA pairs merged into the encoder's qkv",)
    assert all(torch.equal(lora[name], before[name]) for name in lora)
    # What the adapted layer computes.
    x = torch.randn(3, DIM)
    q = x @ state[f"{LAYER}.weight"][:DIM].T
    q = (
        q
        + x @ lora[f"{LAYER}.{a.format('q')}.weight"].T @ lora[f"{LAYER}.{b.format('q')}.weight"].T
    )
    got = x @ checkpoint.state_dict[f"{LAYER}.weight"][:DIM].T
    torch.testing.assert_close(got, q, atol=1e-4, rtol=1e-4)


def test_half_a_pair_and_a_pair_of_another_shape(save: Save, state: State) -> None:
    lora, _ = adapted(state, "qkv", "linear_a_{}", "linear_b_{}")
    half = {k: v for k, v in lora.items() if "linear_b_q" not in k}
    assert "qkv is not whole" in refusal(save(half))
    wide = {k: v[:, :-1] if "linear_a_q" in k else v for k, v in lora.items()}
    assert "does not fit its weight" in refusal(save(wide))


def test_a_wrapped_layer_beside_another(save: Save, state: State) -> None:
    name = f"{LAYER}.weight"
    wrapped = {**state, f"{LAYER}.qkv.weight": state[name] + 1}
    assert f"{name} and {LAYER}.qkv.weight are there and disagree" in refusal(save(wrapped))


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}.lora_A.default.weight",
        "image_encoder.blocks.0.adapter.fc1.weight",
        "prompt_generator.weight",
        "decoder_adapter.weight",
    ],
)
def test_other_adapters_are_refused_by_name(save: Save, state: State, name: str) -> None:
    message = refusal(save({**state, name: torch.ones(2, 2)}))
    assert f"it has an adapter ({name})" in message
    assert "merge" in message


def test_a_directory_of_peft(tmp_path: Path) -> None:
    about = {"peft_type": "LORA", "base_model_name_or_path": "facebook/sam-vit-base", "r": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    pairs = {f"base_model.model.{LAYER}.lora_A.weight": torch.ones(8, 32)}
    save_file(pairs, tmp_path / "adapter_model.safetensors")
    message = refusal(tmp_path)
    assert "this is a LORA adapter of facebook/sam-vit-base, not a whole model" in message
    assert "it holds a LoRA" in refusal(tmp_path / "adapter_model.safetensors")
