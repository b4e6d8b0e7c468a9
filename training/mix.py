"""Mix checkpoints: the weighted mean of their weights.

    PYTHONPATH=src python training/mix.py mixed.safetensors 0.7 old.safetensors 0.3 new.safetensors

Weights that were trained on from one another mostly lie in one basin, where a mean is better than
each of them (Wortsman et al., "Model soups", 2022; Izmailov et al., 2018). How much of each is
chosen by `eval_labels.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def mixed(states: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """Return the mean of state dicts of the same names and shapes, in half precision.

    Raises ValueError where they are not, or where shares are not positive.
    """
    if min(shares) <= 0:
        raise ValueError("shares must be positive")
    first = {name: tensor.shape for name, tensor in states[0].items()}
    if any({name: tensor.shape for name, tensor in s.items()} != first for s in states):
        raise ValueError("these are checkpoints of different forms")
    total = sum(shares)
    pairs = list(zip(shares, states, strict=True))
    return {
        name: sum(share / total * state[name].float() for share, state in pairs).half().contiguous()
        for name in first
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("parts", nargs="+", help="SHARE CHECKPOINT SHARE CHECKPOINT ...")
    args = parser.parse_args()
    if len(args.parts) < 4 or len(args.parts) % 2:
        parser.error("give a share and a checkpoint, at least twice")
    states = [load_file(path) for path in args.parts[1::2]]
    shares = [float(share) for share in args.parts[::2]]
    save_file(mixed(states, shares), args.target, {"format": "pt"})


if __name__ == "__main__":
    main()
