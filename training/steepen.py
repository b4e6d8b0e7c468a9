"""Multiply a checkpoint's mask logits by a factor and leave all its masks as they are.

    PYTHONPATH=src python training/steepen.py runs/vit_s/ema.safetensors vit_s.safetensors

Losses fix where logits cross zero, and hardly how steeply. `samtrt auto` asks how steeply: its
stability score compares the masks at logits of -1 and 1. The factor brings a model's logits to the
scale that this offset was chosen for. Mask prompts are logits too: the layer that reads them is
divided by it. With a power of two, all this is exact in half precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

_READS_MASKS = "prompt_encoder.mask_downscaling.0.weight"
_LAST_LAYERS = tuple(
    f"mask_decoder.output_hypernetworks_mlps.{mask}.layers.2.{kind}"
    for mask in range(4)
    for kind in ("weight", "bias")
)


def steepened(state: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Return the state dict whose logits are `factor` times those of `state`."""
    changed = {name: state[name] * factor for name in _LAST_LAYERS}
    return state | changed | {_READS_MASKS: state[_READS_MASKS] / factor}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--factor", type=float, default=2.0)
    args = parser.parse_args()
    save_file(steepened(load_file(args.source), args.factor), args.target, {"format": "pt"})


if __name__ == "__main__":
    main()
