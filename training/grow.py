"""Make a start for the larger vit_s from weights of its first form.

    PYTHONPATH=src python training/grow.py runs/vit_s/ema.safetensors start.safetensors

The first form took pictures of 512 pixels with 8 blocks; the present one takes 768 with 12. Tables
of positions are interpolated, as is usual (He et al., 2022), and before each pair of old blocks
comes a new one that adds nothing yet: a copy of the next whose last layers are zero (Chen et al.,
"Net2Net", 2016).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

OLD_BLOCK_OF = (0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7)
"""For each block the old one that it comes from."""
NEW = (1, 4, 7, 10)
"""Blocks that are there for the first time."""
OLD_GLOBAL = (1, 3, 5, 7)
_LAST = ("attn.proj.weight", "attn.proj.bias", "mlp.lin2.weight", "mlp.lin2.bias")


def longer(table: Tensor, rows: int) -> Tensor:
    """Interpolate relative positions [2N - 1, C] to `rows`."""
    known = table.float().T[None]
    return F.interpolate(known, size=rows, mode="linear", align_corners=True)[0].T.contiguous()


def finer(table: Tensor, side: int) -> Tensor:
    """Interpolate absolute positions [1, N, N, C] to [1, side, side, C]."""
    grid = table.float().permute(0, 3, 1, 2)
    grown = F.interpolate(grid, size=side, mode="bicubic", align_corners=False)
    return grown.permute(0, 2, 3, 1).contiguous()


def grown(state: dict[str, Tensor], side: int = 48) -> dict[str, Tensor]:
    """Return the state dict of 12 blocks for images of 16 x `side` pixels, in float32."""
    prefix = "image_encoder.blocks."
    out = {name: t.float() for name, t in state.items() if not name.startswith(prefix)}
    out["image_encoder.pos_embed"] = finer(out["image_encoder.pos_embed"], side)
    for index, old in enumerate(OLD_BLOCK_OF):
        start = f"{prefix}{old}."
        for name, tensor in state.items():
            if not name.startswith(start):
                continue
            rest, value = name.removeprefix(start), tensor.float()
            if index in NEW and rest in _LAST:
                value = value * 0
            if old in OLD_GLOBAL and "rel_pos" in rest:
                value = longer(value, 2 * side - 1)
            out[f"{prefix}{index}.{rest}"] = value
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    save_file(grown(load_file(args.source)), args.target, {"format": "pt"})


if __name__ == "__main__":
    main()
