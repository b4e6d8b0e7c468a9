"""A checkpoint of seeded noise, for what needs a model's size and not its masks.

python bench/seeded.py vit_b seeded.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file

from samtrt.models import build_sam, seed_weights
from samtrt.registry import get_spec


def seeded_checkpoint(path: Path, model: str = "vit_s") -> Path:
    """Write a model of noise, its heads scaled so that the default filters of `auto` keep masks."""
    sam = build_sam(get_spec(model))
    seed_weights(sam)
    weights = sam.state_dict()
    weights["mask_decoder.iou_prediction_head.layers.2.bias"] += 1.1
    for mask in range(4):
        for kind in ("weight", "bias"):
            weights[f"mask_decoder.output_hypernetworks_mlps.{mask}.layers.2.{kind}"] *= 30
    save_file(weights, path)
    return path


if __name__ == "__main__":
    seeded_checkpoint(Path(sys.argv[2]), sys.argv[1])
