"""Bring the scores of a point's three masks to the level that `samtrt auto` takes them for.

    PYTHONPATH=src python training/level.py mixed.safetensors vit_s.safetensors --data .data/agreed

Training asks for the IoU with one object under a point, drawn at random: an honest answer is low
where several lie there. `samtrt auto` asks whether a mask fits any object. One number for the three
masks, linear in what the head of scores last computes, is fitted to that (ridge regression), on
labels of training photographs and on composed scenes. Being the same for all three, it leaves the
choice among them as it was; a box's mask keeps its score.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from agreement import ious
from consensus import decoded, known_masks
from parts import read_parts
from pool import load_pool
from samtrt.models import Sam
from scenes import Composer
from views import Seen, View, load

POINTS = 14
"""A picture, each in another of its objects."""
RIDGE = 0.5
"""Times the mean variance of what the last layer takes; the more, the more alike for all points."""
_LAST = "mask_decoder.iou_prediction_head.layers.2."


class Samples(NamedTuple):
    """Points: what the head's last layer takes [P, C], and how far scores are too low [P]."""

    hidden: Tensor
    gap: Tensor


@torch.inference_mode()
def samples_of(model: Sam, photo: Tensor, masks: Tensor, generator: torch.Generator) -> Samples:
    """Ask about a point in each of some objects, bool [N, H, W], of a picture, uint8 [3, H, W]."""
    seen = Seen(View(model), photo)
    small = F.interpolate(masks[None].float(), seen.cells, mode="area")[0] > 0.5
    small = small[small.any(2).any(1)]
    order = torch.randperm(len(small), generator=generator)[:POINTS]
    inside = [small[i].nonzero() for i in order]
    cells = [yx[torch.randint(len(yx), (), generator=generator)] for yx in inside]
    if not cells:
        return Samples(torch.zeros(0, model.spec.prompt_embed_dim), torch.zeros(0))
    rows, columns = torch.stack(cells).unbind(1)
    scale = seen.size[0] / seen.cells[0]
    points = (torch.stack([columns, rows], 1) + 0.5) * scale
    hidden: list[Tensor] = []
    last = model.mask_decoder.iou_prediction_head.layers[-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0].flatten(0, -2)))
    logits, scores = seen.ask(torch.stack([points, torch.zeros_like(points)], 1), (1, -1))
    hook.remove()
    under = small[:, rows, columns].T
    like = ious((logits[:, 1:] > 0).flatten(0, 1), small).reshape(len(points), 3, -1)
    best = (like * under[:, None]).amax(2)
    return Samples(torch.cat(hidden), (best - scores[:, 1:]).mean(1))


def photographs(data: Path, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield training photographs, uint8 [3, H, W], with what is known to be there [N, H, W]."""
    items = dict(read_parts(data))
    names = [name for name in items if name.startswith("ids/train/")]
    for i in np.random.default_rng(0).permutation(len(names))[:count]:
        photo, maps = decoded(names[i].replace("ids/", "photo/", 1), items)
        yield torch.from_numpy(photo), known_masks(maps, photo.shape[1:])


def composed(data: Path, count: int, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield composed scenes, uint8 [3, H, W], with all that is in them, bool [N, H, W]."""
    device = torch.device("cpu")
    composer = Composer(
        load_pool(data, "train", device), torch.Generator().manual_seed(7), 0.0, 0.2
    )
    for _ in range(count):
        scenes = composer.composed(1).enlarged(side)
        height, width = scenes.sizes[0].tolist()
        there = scenes.ids.unique()[None, 1:].long()
        image = scenes.image[0, :, :height, :width].round().to(torch.uint8)
        yield image, scenes.masks(there)[0, :, :height, :width]


def fitted(groups: list[Samples]) -> tuple[Tensor, Tensor]:
    """Fit the gap: weights [C] and a bias. Each group counts the same."""
    hidden, gap = (torch.cat(parts).double() for parts in zip(*groups, strict=True))
    weight = torch.cat([torch.full((len(g.gap),), 1 / len(g.gap)).double() for g in groups])
    weight = weight / weight.sum()
    middle, mean = weight @ hidden, weight @ gap
    centred = hidden - middle
    ridge = RIDGE * centred.var(0).mean() * torch.eye(len(middle), dtype=torch.float64)
    weighted = (centred * weight[:, None]).T
    slope = torch.linalg.solve(weighted @ centred + ridge, weighted @ (gap - mean))
    return slope, mean - middle @ slope


def levelled(state: dict[str, Tensor], slope: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Return the state dict whose scores of masks 1 to 3 are higher by `slope` h + `bias`."""
    weights, biases = state[f"{_LAST}weight"].double(), state[f"{_LAST}bias"].double()
    weights[1:] += slope
    biases[1:] += bias
    half = {f"{_LAST}weight": weights.half(), f"{_LAST}bias": biases.half()}
    return state | half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="what `consensus.py` wrote")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--scenes", type=int, default=72)
    args = parser.parse_args()
    model, generator = load(args.source), torch.Generator().manual_seed(0)
    groups = []
    for pictures in (
        photographs(args.data, args.photos),
        composed(args.data, args.scenes, model.spec.image_size),
    ):
        found = [samples_of(model, photo, masks, generator) for photo, masks in pictures]
        groups.append(Samples(*(torch.cat(parts) for parts in zip(*found, strict=True))))
        print(len(groups[-1].gap), "points, too low by", round(float(groups[-1].gap.mean()), 3))
    save_file(levelled(load_file(args.source), *fitted(groups)), args.target, {"format": "pt"})


if __name__ == "__main__":
    main()
