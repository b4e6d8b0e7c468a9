"""The paper's mask losses (section A): focal and dice at 20:1, and MSE on predicted IoU.

Dice is the form whose minimum is the soft truth itself. The usual one is least where each pixel of
a mask's edge is all in or all out, which costs objects of a few low-res pixels their outline.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def doubled(logits: Tensor) -> Tensor:
    """Enlarge [..., M, M] bilinearly to [..., 2M, 2M], as users do: `F.interpolate` by 2.

    Written out, so that torch.compile fuses it and its gradient with the losses.
    """
    for _ in range(2):  # one axis, then the other
        logits = logits.transpose(-2, -1)
        near = 0.75 * logits
        low = torch.cat([logits[..., :1], logits[..., :-1]], -1)
        high = torch.cat([logits[..., 1:], logits[..., -1:]], -1)
        logits = torch.stack([near + 0.25 * low, near + 0.25 * high], -1).flatten(-2)
    return logits


def focal_dice(logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """20 x focal (Lin et al., 2017) + dice of every mask.

    logits [P, C, M, M], truth [P, 1, M, M] in 0..1 (soft at edges); returns [P, C].
    """
    truth = truth.expand_as(logits)
    probability = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = probability * (1 - truth) + (1 - probability) * truth
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    focal = (weight * miss**gamma * cross).mean((2, 3))
    return 20 * focal + dice(probability, truth)


def dice(probability: Tensor, truth: Tensor) -> Tensor:
    """Dice loss for soft truth (Wang et al., "Dice Semimetric Losses", 2023).

    1 - (|p| + |t| - |p - t|) / (|p| + |t|), which is 1 - 2 |p t| / (|p| + |t|) wherever t is 0 or
    1; both [..., M, M] in 0..1; returns [...].
    """
    both = (probability + truth).sum((-2, -1))
    return 1 - (both - (probability - truth).abs().sum((-2, -1)) + 1) / (both + 1)


def iou(logits: Tensor, truth: Tensor) -> Tensor:
    """IoU of thresholded logits [..., M, M] with truth: [...]."""
    predicted, wanted = logits > 0, truth > 0.5
    union = (predicted | wanted).sum((-2, -1)).clamp(min=1)
    return (predicted & wanted).sum((-2, -1)) / union


def round_loss(
    logits: Tensor, scores: Tensor, truth: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of one prompting round, and the IoU of mask 0.

    Mask 0 answers for itself; of masks 1 to 3 the best one learns (minimum over masks), so that
    an ambiguous prompt may have several answers. Every score learns its own mask's IoU.
    Masks are compared at twice the logits' size: there the place between two logits where a border
    lies counts, not only on which of them it lies.
    logits [P, 4, M, M], scores [P, 4], truth [P, 2M, 2M], usable bool [P]; returns a scalar and
    [P].
    """
    logits, scores = doubled(logits.float()), scores.float()
    per_mask = focal_dice(logits, truth[:, None])
    actual = iou(logits.detach(), truth[:, None])
    loss = (
        per_mask[:, 0]
        + per_mask[:, 1:].amin(1)
        + F.mse_loss(scores, actual, reduction="none").sum(1)
    )
    weight = usable.float()
    return (loss * weight).sum() / weight.sum().clamp(min=1), actual[:, 0]
