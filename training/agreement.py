"""What views of a photograph agree on.

A grid of points proposes masks in each view. Each is then asked for again by its box, in the views
that hold it; where their answers are alike, their mean is a label.
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
WINDOW = 64
"""Answers to a box are compared in a window of this side around it, so that size does not count."""
SMALLEST, LARGEST = 0.0008, 0.7  # of the photograph
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
    its box, in each view that holds it.
    """
    every = [Seen(view, photo) for view in views]
    proposals = torch.cat([known, *(search(seen) for seen in every)])
    alone = torch.ones(len(proposals), device=photo.device)
    proposals = proposals[distinct(ious(proposals, proposals), alone, _SAME)]
    if not len(proposals):
        return []
    boxes = boxes_of(proposals)
    answers = [Answers(seen, boxes) for seen in every]
    views_each = torch.stack([a.held for a in answers]).sum(0)
    agreement = agreement_of(answers)
    score = sum(a.scores for a in answers) / views_each
    views_each = views_each[:, None, None]
    window = sum(a.windows for a in answers) / views_each > 0.5
    inner = boxes.new_tensor([0.25, 0.25, 0.75, 0.75]).expand_as(boxes)  # where a window has it
    fit = box_ious(inner, boxes_of(window))
    good = (agreement > _AGREED) & (score > _SCORE) & (fit > _FIT)
    coarse = sum(a.drawn(slice(None), MATCH) for a in answers) / views_each > 0.5
    kept = distinct(ious(coarse, coarse), agreement * score * good, _DUPLICATE)
    fine = sum(a.drawn(kept, FRAME) for a in answers) / views_each[kept] > 0.5
    return list(fine.cpu().numpy())


class Answers:
    """What one view answers to boxes [N, 4]; 0 for those that it does not hold.

    Attributes:
        held: Which boxes the view holds, bool [N].
        scores: Predicted IoU, [N].
        windows: Odds around each box, [N, WINDOW, WINDOW].
    """

    def __init__(self, seen: Seen, boxes: Tensor) -> None:
        self.seen, self.held = seen, seen.view.holds(boxes)
        count = len(boxes)
        self.scores = boxes.new_zeros(count)
        self.windows = boxes.new_zeros(count, WINDOW, WINDOW)
        self.odds = boxes.new_zeros(count, *seen.cells)
        if self.held.any():
            mine = boxes[self.held]
            logits, scores = seen.ask(seen.corners(mine), (2, 3))
            odds = logits[:, 0].float().sigmoid()
            self.odds[self.held] = odds
            self.scores[self.held] = scores[:, 0]
            self.windows[self.held] = seen.windows(odds, mine, WINDOW)

    def drawn(self, index: slice | list[int], longest: int) -> Tensor:
        """The odds of some boxes in the photograph's frame, as `Seen.drawn` has it."""
        return self.seen.drawn(self.odds[index], longest)


def agreement_of(answers: Sequence[Answers]) -> Tensor:
    """Mean IoU of the answers of each two views that hold a box: [N]."""
    total = count = torch.zeros_like(answers[0].scores)
    for one, two in combinations(answers, 2):
        both = one.held & two.held
        total = total + both * each_iou(one.windows > 0.5, two.windows > 0.5)
        count = count + both
    return total / count.clamp(min=1)


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
