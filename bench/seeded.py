"""A checkpoint of seeded noise, for what needs a model's size and not its masks.

python bench/seeded.py vit_b seeded.safetensors

Any model that samtrt knows, and two pruned ones: slim_sam_77 is SlimSAM's smaller one, slim_sam_50
has half of ViT-B's widths.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from samtrt.models import build_sam, seed_weights
from samtrt.registry import ModelSpec, Sam2Spec, ViTSpec, get_spec

PRUNED = {
    spec.name: spec
    for spec in (
        ViTSpec(
            name=f"slim_sam_{percent}",
            embed_dim=width,
            depth=12,
            num_heads=12,
            global_attn_indexes=(2, 5, 8, 11),
            mlp_ratio=inner / width,
        )
        for percent, width, inner in ((50, 384, 1536), (77, 168, 696))
    )
}

_SAM2_NAMES = (
    (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    (r"^image_encoder\.no_mem_embed$", "no_mem_embed"),
    (r"^memory\.", ""),
    (r"(trunk\.blocks|transformer\.layers)\.(\d+)\.mlp\.lin1\.", r"\1.\2.mlp.layers.0."),
    (r"(trunk\.blocks|transformer\.layers)\.(\d+)\.mlp\.lin2\.", r"\1.\2.mlp.layers.1."),
)

ALWAYS_THERE = 5.0
"""Added to a SAM 2's object scores: what is followed does not get lost."""


def spec_of(model: str) -> ModelSpec:
    """Return the numbers of a model that samtrt knows, or of one of `PRUNED`."""
    return PRUNED.get(model) or get_spec(model)


def seeded_checkpoint(path: Path, model: str = "vit_s") -> Path:
    """Write a model of noise, its heads scaled so that the default filters of `auto` keep masks."""
    spec = spec_of(model)
    sam = build_sam(spec)
    seed_weights(sam)
    weights = sam.state_dict()
    weights["mask_decoder.iou_prediction_head.layers.2.bias"] += 1.1
    for mask in range(4):
        for kind in ("weight", "bias"):
            weights[f"mask_decoder.output_hypernetworks_mlps.{mask}.layers.2.{kind}"] *= 30
    if isinstance(spec, Sam2Spec):
        weights["mask_decoder.pred_obj_score_head.layers.2.bias"] += ALWAYS_THERE
        weights = official_names(weights)
    if path.suffix == ".pt":
        torch.save({"model": weights}, path)
    else:
        save_file(weights, path)
    return path


def official_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of a SAM 2 or an EdgeTAM as its own code does, by which it is known."""
    named = {}
    for name, tensor in weights.items():
        for pattern, replacement in _SAM2_NAMES:
            name = re.sub(pattern, replacement, name)
        named[name] = tensor
    return named


if __name__ == "__main__":
    seeded_checkpoint(Path(sys.argv[2]), sys.argv[1])
