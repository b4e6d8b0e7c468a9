"""Which of a scene's objects can be asked for, and which are."""

from __future__ import annotations

import torch
from torch import Tensor

from scenes import Scenes, areas

MIN_VISIBLE = 0.002  # of the frame
MIN_SHARE = 0.3  # of an object's own area
WHOLES_AHEAD = 0.4
"""How far wholes are ahead where masks are drawn in the order of numbers in 0..1."""


def usable(scenes: Scenes, least: float = MIN_VISIBLE) -> Tensor:
    """Which ids are visible enough to be asked for, from `least` of the frame on: bool [B, 256]."""
    alone = areas(scenes.ids)
    visible = alone.scatter_add(1, scenes.parents.long(), alone * (scenes.parents > 0))
    enough = (visible > least * scenes.side**2) & (visible > MIN_SHARE * scenes.own_area)
    return enough & (scenes.own_area > 0)


def choose_masks(
    scenes: Scenes, count: int, generator: torch.Generator, least: float = MIN_VISIBLE
) -> tuple[Tensor, Tensor]:
    """Draw `count` masks a scene: bool [B, count, S, S] and whether each is usable [B, count].

    Wholes that have parts are ahead: parts are many, and a whole is what a box mostly means.
    """
    allowed = usable(scenes, least)
    there = (scenes.own_area > 0).float()
    parts = torch.zeros_like(there).scatter_add(1, scenes.parents.long(), there)
    draw = torch.rand(allowed.shape, generator=generator, device=allowed.device)
    score = (draw + WHOLES_AHEAD * (parts > 0)) * allowed
    best, index = score.topk(count, dim=1)
    # A scene with fewer objects asks for its first one again.
    index = torch.where(best > 0, index, index[:, :1])
    return scenes.masks(index), allowed.gather(1, index)
