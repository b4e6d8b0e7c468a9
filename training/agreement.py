"""What views of a photograph agree on.

A grid of points proposes masks in each view. Each is then asked for again by its box, in the views
of the whole photograph; where their answers are alike, their mean is a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from prompting import boxes as pixel_boxes
from views import Seen, View

FRAME = 512
"""Labels' longer side, in pixels."""
MATCH = 256
"""Masks are compared in frames of this longer side."""
SMALLEST, LARGEST = 0.0025, 0.7  # of the photograph
_STABLE, _SCORED = 0.8, 0.2
_SAME = 0.8  # IoU of duplicates among what is proposed
_AGREED = 0.85  # mean IoU of what two views answer to the same box
_SCORE = 0.75  # IoU that they predict for it
_FIT = 0.8  # IoU of their answer's box with the one that they were asked
_DUPLICATE = 0.65  # IoU of labels


@torch.inference_mode()
def agreed(photo: Tensor, views: Sequence[View], known: Tensor) -> list[np.ndarray]:
    """Find what views of a photograph, uint8 [3, H, W], agree on: bool [h, w] in a frame of 512.

    Each mask that any view finds by points, and each of `known` [N, h, w], is asked for again by
    its box, in each view of the whole.
    """
    every = [Seen(view, photo) for view in views]
    proposals = torch.cat([known, *(search(seen) for seen in every)])
    alone = torch.ones(len(proposals), device=photo.device)
    proposals = proposals[distinct(ious(proposals, proposals), alone, _SAME)]
    if not len(proposals):
        return []
    boxes = boxes_of(proposals)
    whole = [seen for seen in every if seen.view.whole]
    answers = [seen.ask(seen.corners(boxes), (2, 3)) for seen in whole]
    odds = [logits[:, 0].float().sigmoid() for logits, _ in answers]
    masks = [seen.drawn(some, MATCH) > 0.5 for seen, some in zip(whole, odds, strict=True)]
    pairs = [each_iou(one, two) for one, two in combinations(masks, 2)]
    agreement = torch.stack(pairs).mean(0)
    score = torch.stack([scores[:, 0] for _, scores in answers]).mean(0)
    mean = torch.stack([mask.float() for mask in masks]).mean(0) > 0.5
    fit = box_ious(boxes, boxes_of(mean))
    good = (agreement > _AGREED) & (score > _SCORE) & (fit > _FIT)
    kept = distinct(ious(mean, mean), agreement * score * good, _DUPLICATE)
    fine = [seen.drawn(some[kept], FRAME) for seen, some in zip(whole, odds, strict=True)]
    return list((torch.stack(fine).mean(0) > 0.5).cpu().numpy())


def each_iou(one: Tensor, two: Tensor) -> Tensor:
    """IoU of each of masks [N, h, w] with the same one of [N, h, w]: [N]."""
    return (one & two).sum((1, 2)) / (one | two).sum((1, 2)).clamp(min=1)


def box_ious(one: Tensor, two: Tensor) -> Tensor:
    """IoU of each of boxes [N, 4] with the same one of [N, 4]: [N]."""
    low, high = torch.maximum(one[:, :2], two[:, :2]), torch.minimum(one[:, 2:], two[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (one, two)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-9)


def search(seen: Seen) -> Tensor:
    """Find the stable masks of a view by its points, each once: bool [N, h, w] in its frame."""
    logits, scores = seen.ask(seen.points(), (1, -1))
    logits, scores = logits[:, 1:].flatten(0, 1), scores[:, 1:].flatten()
    inner = (logits > 1).sum((1, 2)).float()
    stability = inner / (logits > -1).sum((1, 2)).clamp(min=1)
    good = (scores > _SCORED) & (stability > _STABLE) & ~cut_off(seen.view, logits > 0)
    masks = seen.drawn(logits[good].sigmoid(), MATCH) > 0.5
    share = masks.float().mean((1, 2))
    fits = (share > SMALLEST) & (share < LARGEST)
    return masks[distinct(ious(masks, masks), (scores * stability)[good] * fits, _SAME)]


def cut_off(view: View, masks: Tensor) -> Tensor:
    """Tell which masks [N, m, n] of a view end where the view does and the photograph does not."""
    x0, y0, x1, y1 = view.box
    left, right = (1 - x1, 1 - x0) if view.mirrored else (x0, x1)
    sides = (
        (left > 0, masks[:, :, :2]),
        (right < 1, masks[:, :, -2:]),
        (y0 > 0, masks[:, :2]),
        (y1 < 1, masks[:, -2:]),
    )
    touched = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    for inside, edge in sides:
        if inside:
            touched |= edge.flatten(1).any(1)
    return touched


def ious(one: Tensor, two: Tensor) -> Tensor:
    """IoU of each of masks [N, h, w] with each of [M, h, w]: [N, M]."""
    one, two = one.flatten(1), two.flatten(1)
    both = one.float() @ two.float().T
    areas = one.sum(1)[:, None] + two.sum(1)[None]
    return both / (areas - both).clamp(min=1)


def distinct(same: Tensor, rank: Tensor, most: float) -> list[int]:
    """Indexes of those of positive `rank` [N], the best first, that are no other's duplicates.

    `same` [N, N] is how much they are alike, `most` how much two may be.
    """
    close, values = (same > most).cpu().numpy(), rank.cpu().numpy()
    gone, kept = values <= 0, []
    for i in np.argsort(-values):
        if not gone[i]:
            kept.append(int(i))
            gone |= close[i]
    return kept


def boxes_of(masks: Tensor) -> Tensor:
    """Tight boxes of masks [N, h, w]: (x0, y0, x1, y1) [N, 4] in 0..1 of the frame."""
    height, width = masks.shape[-2:]
    scale = torch.tensor([width, height] * 2, device=masks.device)
    far = torch.tensor([0, 0, 1, 1], device=masks.device)  # boxes end after the last pixel
    return (pixel_boxes(masks) + far) / scale
