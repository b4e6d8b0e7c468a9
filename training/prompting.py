"""Simulated prompts: first a point or a jittered box, then points where the mask is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = -1


def weighted_pixel(weight: Tensor, generator: torch.Generator, stride: int) -> Tensor:
    """Draw a pixel with odds `weight` [P, H, W] >= 0; (x, y) [P, 2] in pixels `stride` x finer."""
    flat = weight.flatten(1)
    # Exponential race: argmax of w / Exp(1) is distributed as w.
    race = flat / torch.empty_like(flat).exponential_(generator=generator).clamp(min=1e-9)
    index = race.argmax(1)
    cell = torch.stack([index % weight.shape[2], index // weight.shape[2]], 1).float()
    inside = torch.rand(cell.shape, generator=generator, device=weight.device)
    return cell * stride + (inside * stride).floor()


def first_points(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Points inside masks [P, S, S], half of them uniform, half drawn to the middle: [P, 2]."""
    small = F.max_pool2d(masks[:, None].float(), 2)[:, 0]
    solid = -F.max_pool2d(-masks[:, None].float(), 2)[:, 0]
    solid = torch.where(solid.amax((1, 2), keepdim=True) > 0, solid, small)
    depth = F.avg_pool2d(F.interpolate(small[:, None], scale_factor=0.5), 21, 1, 10)
    depth = F.interpolate(depth, scale_factor=2.0)[:, 0]
    central = torch.rand(len(masks), 1, 1, generator=generator, device=masks.device) < 0.5
    return weighted_pixel(solid * torch.where(central, depth**4, 1.0), generator, 2)


def boxes(masks: Tensor) -> Tensor:
    """Tight boxes of masks [P, S, S]: (x0, y0, x1, y1) [P, 4] in pixels."""
    size = masks.shape[-1]
    pixel = torch.arange(size, device=masks.device, dtype=torch.float32)
    edges = []
    for axis in (1, 2):  # any over rows gives columns, and the other way round
        seen = masks.any(axis)
        low = torch.where(seen, pixel, float(size)).amin(1)
        high = torch.where(seen, pixel, -1.0).amax(1)
        edges.append((low, high))
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], 1)


def jitter(box: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Move every corner by noise of 10% of the side, at most 20 pixels (paper, section A)."""
    side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    noise = torch.randn(box.shape, generator=generator, device=box.device) * 0.1 * side
    return (box + noise.clamp(-20, 20)).clamp(0, size - 1)


def first_prompt(
    masks: Tensor, use_box: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return coords [P, 2, 2] and labels [P, 2]: a box, or a point and the padding point."""
    corners = jitter(boxes(masks), generator, masks.shape[-1]).reshape(-1, 2, 2)
    point = first_points(masks, generator)
    padded = torch.stack([point, torch.zeros_like(point)], 1)
    coords = torch.where(use_box[:, None, None], corners, padded)
    box_labels = torch.tensor([2, 3], device=masks.device)
    point_labels = torch.tensor([1, PADDING], device=masks.device)
    return coords, torch.where(use_box[:, None], box_labels, point_labels)


def corrective_point(
    logits: Tensor, truth: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a point where logits [P, M, M] and soft truth [P, M, M] disagree: [P, 1, 2], [P, 1].

    Its label is 1 where the mask is missing and 0 where it is too much; a perfect mask gets a
    point inside.
    """
    wanted = truth > 0.5
    wrong = (logits > 0) != wanted
    perfect = ~wrong.any((1, 2)).reshape(-1, 1, 1)
    place = torch.where(perfect, truth + 1e-6, wrong.float())
    stride = 512 // truth.shape[-1]
    point = weighted_pixel(place, generator, stride)
    cell = (point / stride).long()
    label = wanted[torch.arange(len(point), device=point.device), cell[:, 1], cell[:, 0]]
    return point[:, None], label[:, None].long()
