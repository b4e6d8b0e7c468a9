"""Steeper logits, the same masks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[2] / "training"))  # its scripts

from samtrt.models import build_sam  # noqa: E402
from samtrt.models.sam import seed_weights  # noqa: E402
from samtrt.registry import get_spec  # noqa: E402
from steepen import steepened  # noqa: E402


@torch.inference_mode()
def test_logits_are_twice_as_steep_also_after_a_mask_prompt() -> None:
    model, steep = build_sam(get_spec("vit_t")), build_sam(get_spec("vit_t"))
    seed_weights(model)
    steep.load_state_dict(steepened(model.state_dict(), 2.0))
    embedding = torch.randn(1, 256, 16, 16, generator=torch.Generator().manual_seed(0))
    prompt = embedding, torch.tensor([[[90.0, 60.0]]]), torch.tensor([[1]])
    logits, scores = model.decode(*prompt, torch.zeros(1, 1, 64, 64), torch.zeros(1))
    for _ in range(2):  # the second time with the first answer as mask prompt
        double, same = steep.decode(*prompt, 2 * logits[:, :1], torch.ones(1))
        logits, scores = model.decode(*prompt, logits[:, :1], torch.ones(1))
        torch.testing.assert_close(double, 2 * logits)
        torch.testing.assert_close(same, scores)
