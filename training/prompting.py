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
    return weighted_pixel(solid * (depth**4 * central + ~central), generator, 2)


def boxes(masks: Tensor) -> Tensor:
    """Tight boxes of masks [P, S, S]: (x0, y0, x1, y1) [P, 4] in pixels."""
    size = masks.shape[-1]
    pixel = torch.arange(size, device=masks.device, dtype=torch.float32)
    edges = []
    for axis in (1, 2):  # any over rows gives columns, and the other way round
        seen = masks.any(axis)
        low = (pixel * seen + size * ~seen).amin(1)
        high = (pixel * seen - 1.0 * ~seen).amax(1)
        edges.append((low, high))
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], 1)


def jitter(box: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Move corners by noise of 10% of the side, at most 20 pixels (paper, section A).

    Four boxes in ten stay exact, as those of detectors and careful users nearly are.
    """
    side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    noise = torch.randn(box.shape, generator=generator, device=box.device) * 0.1 * side
    exact = torch.rand(len(box), 1, generator=generator, device=box.device) < 0.4
    return (box + noise.clamp(-20, 20) * ~exact).clamp(0, size - 1)


def first_prompt(
    masks: Tensor, use_box: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return coords [P, 2, 2] and labels [P, 2]: a box, or a point and the padding point."""
    corners = jitter(boxes(masks), generator, masks.shape[-1]).reshape(-1, 2, 2)
    point = first_points(masks, generator)
    padded = torch.stack([point, torch.zeros_like(point)], 1)
    coords = torch.where(use_box[:, None, None], corners, padded)
    first = 1 + use_box.long()
    second = PADDING + (3 - PADDING) * use_box.long()
    return coords, torch.stack([first, second], 1)


def corrective_points(
    logits: Tensor, truth: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw points where logits [P, M, M] and soft truth [P, M, M] disagree: [P, N, 2], [P, N].

    A point's label is 1 where the mask is missing and 0 where it is too much; a perfect mask gets
    points inside.
    """
    wanted = truth > 0.5
    wrong = (logits > 0) != wanted
    perfect = ~wrong.any((1, 2)).reshape(-1, 1, 1)
    place = torch.where(perfect, truth + 1e-6, wrong.float())
    stride = 512 // truth.shape[-1]
    rows = torch.arange(len(truth), device=truth.device)
    points, labels = [], []
    for _ in range(count):
        point = weighted_pixel(place, generator, stride)
        cell = (point / stride).long()
        points.append(point)
        labels.append(wanted[rows, cell[:, 1], cell[:, 0]].long())
    return torch.stack(points, 1), torch.stack(labels, 1)
