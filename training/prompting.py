"""Simulated prompts: points inside the mask, boxes, and points where an answer is wrong.

How many tokens a prompt has never depends on the data, so that a CUDA graph can replay it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = -1
EXACT_BOXES = 0.4
COARSE = 128


def weighted_pixel(weight: Tensor, generator: torch.Generator, stride: int) -> Tensor:
    """Draw a pixel with odds `weight` [P, H, W] >= 0; (x, y) [P, 2] in pixels `stride` x finer."""
    flat = weight.flatten(1)
    # Exponential race: argmax of w / Exp(1) is distributed as w.
    race = flat / torch.empty_like(flat).exponential_(generator=generator).clamp(min=1e-9)
    index = race.argmax(1)
    cell = torch.stack([index % weight.shape[2], index // weight.shape[2]], 1).float()
    inside = torch.rand(cell.shape, generator=generator, device=weight.device)
    return cell * stride + (inside * stride).floor()


class Shapes(NamedTuple):
    """What prompts for masks are drawn from, computed once for all rounds.

    Attributes:
        cover: Share of each cell of 2 x 2 pixels that a mask covers, float [P, S / 2, S / 2].
        inside: 1 for cells that lie inside the mask, [P, S / 2, S / 2]; for a mask that fills no
            cell, those that it touches.
        depth: How much of a cell's surroundings the mask fills, in 0..1, [P, S / 2, S / 2].
        box: Tight boxes (x0, y0, x1, y1), [P, 4] in pixels.
    """

    cover: Tensor
    inside: Tensor
    depth: Tensor
    box: Tensor

    @classmethod
    def of(cls, masks: Tensor) -> Shapes:
        """Look at masks, bool [P, S, S]."""
        cover = F.avg_pool2d(masks[:, None].float(), 2)[:, 0]
        touched, solid = (cover > 0).float(), (cover == 1).float()
        filled = (solid.amax((1, 2), keepdim=True) > 0).float()
        # In cells of 1/128 of the frame; a sixth of it is a surrounding.
        step = max(1, cover.shape[-1] // COARSE)
        coarse = F.interpolate(touched[:, None], scale_factor=1 / step)
        depth = F.interpolate(F.avg_pool2d(coarse, 21, 1, 10), scale_factor=float(step))[:, 0]
        return cls(cover, solid * filled + touched * (1 - filled), depth, boxes(masks))

    @property
    def size(self) -> int:
        """S."""
        return 2 * self.cover.shape[-1]


def inner_points(shapes: Shapes, count: int, generator: torch.Generator) -> Tensor:
    """Draw points inside masks: [P, count, 2].

    For half of the masks they lie anywhere inside, for the others they are drawn to the middle.
    """
    inside = shapes.inside
    central = torch.rand(len(inside), 1, 1, generator=generator, device=inside.device) < 0.5
    weight = inside * (shapes.depth**4 * central + ~central)
    return torch.stack([weighted_pixel(weight, generator, 2) for _ in range(count)], 1)


def boxes(masks: Tensor) -> Tensor:
    """Tight boxes of masks [P, H, W]: (x0, y0, x1, y1) [P, 4] in pixels."""
    edges = []
    for axis in (1, 2):  # any over rows gives columns, and the other way round
        seen = masks.any(axis)
        size = seen.shape[1]
        pixel = torch.arange(size, device=masks.device, dtype=torch.float32)
        low = (pixel * seen + size * ~seen).amin(1)
        high = (pixel * seen - 1.0 * ~seen).amax(1)
        edges.append((low, high))
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], 1)


def jitter(box: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Move corners by noise of up to 10% of the side, at most 40 pixels of 512.

    The paper (section A) has 20, so that a loose box of a large thing was never seen.

    How much is drawn for each box. `EXACT_BOXES` of them stay as they are: an exact box says that
    the mask touches each of its sides, which is worth learning.
    """
    side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    much = 0.1 * torch.rand(len(box), 1, generator=generator, device=box.device)
    noise = torch.randn(box.shape, generator=generator, device=box.device) * much * side
    exact = torch.rand(len(box), 1, generator=generator, device=box.device) < EXACT_BOXES
    return (box + noise.clamp(-size / 12.8, size / 12.8) * ~exact).clamp(0, size - 1)


def fresh_prompt(
    shapes: Shapes, use_box: Tensor, tokens: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Prompt for P masks with `tokens` >= 2 tokens: coords [P, N, 2] and labels [P, N].

    Where `use_box` [P] they are points inside the mask and the box, elsewhere points and the
    padding point: what the official predictor makes of a user's prompts.
    """
    points = inner_points(shapes, tokens - 1, generator)
    corners = jitter(shapes.box, generator, shapes.size).reshape(-1, 2, 2)
    boxed = torch.cat([points[:, :-1], corners], 1)
    padded = torch.cat([points, torch.zeros_like(points[:, :1])], 1)
    labels = torch.ones(len(points), tokens, dtype=torch.long, device=points.device)
    labels[:, -2] += use_box  # box corners are 2 and 3
    labels[:, -1] = PADDING + (3 - PADDING) * use_box
    return torch.where(use_box[:, None, None], boxed, padded), labels


def corrective_points(
    logits: Tensor, truth: Tensor, count: int, generator: torch.Generator, size: int
) -> tuple[Tensor, Tensor]:
    """Draw points where logits [P, M, M] and soft truth [P, M, M] disagree: [P, N, 2], [P, N].

    Points are in pixels of frames that are `size` wide.

    A point's label is 1 where the mask is missing and 0 where it is too much; a perfect mask gets
    points inside.
    """
    wanted = truth > 0.5
    wrong = (logits > 0) != wanted
    perfect = ~wrong.any((1, 2)).reshape(-1, 1, 1)
    place = torch.where(perfect, truth + 1e-6, wrong.float())
    stride = size // truth.shape[-1]
    rows = torch.arange(len(truth), device=truth.device)
    points, labels = [], []
    for _ in range(count):
        point = weighted_pixel(place, generator, stride)
        cell = (point / stride).long()
        points.append(point)
        labels.append(wanted[rows, cell[:, 1], cell[:, 0]].long())
    return torch.stack(points, 1), torch.stack(labels, 1)
