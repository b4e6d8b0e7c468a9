"""The paper's mask losses (section A): focal and dice at 20:1, and MSE on predicted IoU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def focal_dice(logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """20 x focal (Lin et al., 2017) + dice (Milletari et al., 2016) of every mask.

    logits [P, C, M, M], truth [P, 1, M, M] in 0..1 (soft at edges); returns [P, C].
    """
    truth = truth.expand_as(logits)
    probability = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = probability * (1 - truth) + (1 - probability) * truth
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    focal = (weight * miss**gamma * cross).mean((2, 3))
    overlap = 2 * (probability * truth).sum((2, 3))
    dice = 1 - (overlap + 1) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return 20 * focal + dice


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
    logits [P, 4, M, M], scores [P, 4], truth [P, M, M], usable bool [P]; returns a scalar and [P].
    """
    logits, scores = logits.float(), scores.float()
    per_mask = focal_dice(logits, truth[:, None])
    actual = iou(logits.detach(), truth[:, None])
    loss = (
        per_mask[:, 0]
        + per_mask[:, 1:].amin(1)
        + F.mse_loss(scores, actual, reduction="none").sum(1)
    )
    weight = usable.float()
    return (loss * weight).sum() / weight.sum().clamp(min=1), actual[:, 0]
