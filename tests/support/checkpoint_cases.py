"""A small SAM and what its checkpoints are checked with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from samtrt.checkpoints.load import Checkpoint, load_checkpoint
from samtrt.errors import CheckpointError
from samtrt.registry import ViTSpec

State = dict[str, Tensor]

SPEC = ViTSpec(
    name="custom",
    embed_dim=32,
    depth=3,
    num_heads=2,
    global_attn_indexes=(1,),
    image_size=128,
    window_size=5,
    prompt_embed_dim=64,
)
PROJ = "image_encoder.patch_embed.proj.weight"
QKV = "image_encoder.blocks.1.attn.qkv.bias"


def equal(checkpoint: Checkpoint, state: State) -> bool:
    found = checkpoint.state_dict
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


def refusal(path: Path, model: str | None = None) -> str:
    """Return the message of the `CheckpointError`: one line that names the path."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, model)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message
