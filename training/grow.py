"""Make a start for vit_s from weights of an earlier form, or the same weights for other sizes.

    PYTHONPATH=src python training/grow.py runs/vit_s/ema.safetensors start.safetensors --size 1024

The first form took pictures of 512 pixels with 8 blocks, the second 768 with 12; the present one
takes 1024 with 12. Tables of positions are interpolated, as is usual (He et al., 2022); where there
are 8 blocks, before each pair comes a new one that adds nothing yet: a copy of the next whose last
layers are zero (Chen et al., "Net2Net", 2016).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from samtrt.registry import get_spec

OLD_BLOCK_OF = (0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7)
"""For each of 12 blocks the one of 8 that it comes from."""
NEW = (1, 4, 7, 10)
"""Those of 12 blocks that are there for the first time."""
GLOBAL = (2, 5, 8, 11)
"""Those of 12 blocks that attend to the whole picture."""
_BLOCKS = "image_encoder.blocks."
_POSITIONS = "image_encoder.pos_embed"
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


def deeper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of 12 blocks that computes what these 8 do."""
    out = {name: tensor for name, tensor in state.items() if not name.startswith(_BLOCKS)}
    for index, old in enumerate(OLD_BLOCK_OF):
        start = f"{_BLOCKS}{old}."
        for name, tensor in state.items():
            if name.startswith(start):
                rest = name.removeprefix(start)
                silent = index in NEW and rest in _LAST
                out[f"{_BLOCKS}{index}.{rest}"] = tensor * 0 if silent else tensor
    return out


def resized(state: dict[str, Tensor], side: int) -> dict[str, Tensor]:
    """Return the state dict of 12 blocks for images of 16 x `side` pixels."""
    out = dict(state)
    out[_POSITIONS] = finer(state[_POSITIONS], side)
    for index in GLOBAL:
        for axis in "hw":
            name = f"{_BLOCKS}{index}.attn.rel_pos_{axis}"
            out[name] = longer(state[name], 2 * side - 1)
    return out


def grown(state: dict[str, Tensor], side: int) -> dict[str, Tensor]:
    """Return 12 blocks for images of 16 x `side` pixels, of 8 or 12 of any size, in float32."""
    state = {name: tensor.float() for name, tensor in state.items()}
    has_all = f"{_BLOCKS}{len(OLD_BLOCK_OF) - 1}.norm1.weight" in state
    return resized(state if has_all else deeper(state), side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--size", type=int, default=1024, help="of pictures, in pixels")
    args = parser.parse_args()
    state = grown(load_file(args.source), args.size // get_spec("vit_s").patch_size)
    halves = {name: tensor.half() for name, tensor in state.items()}
    save_file(halves, args.target, {"format": "pt"})


if __name__ == "__main__":
    main()
