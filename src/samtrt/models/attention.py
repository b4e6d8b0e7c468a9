"""Attention with decomposed relative positions, in several exact forms.

SAM's encoder adds to every attention score the terms `q . rel_h[row distance]` and
`q . rel_w[column distance]` (`add_decomposed_rel_pos` in the official
`modeling/image_encoder.py`, after MViTv2). The forms below give the same numbers; they differ in
which kernels a runtime can use for them. Everything else in the encoder is blind to the choice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from samtrt.choices import AttentionForm

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, tuple[int, int]], Tensor]


def _rel_terms(
    q: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return q.rel_h and q.rel_w: [B, heads, H*W, H] and [B, heads, H*W, W]."""
    h, w = size
    batch, heads, _, dim = q.shape
    grid = q.reshape(batch * heads, h, w, dim)
    # One matrix product a row (and a column): [h] x [B*w, dim] @ [dim, h].
    by_row = grid.transpose(0, 1).reshape(h, batch * heads * w, dim)
    term_h = (by_row @ rel_h.transpose(1, 2)).reshape(h, batch * heads, w, h).transpose(0, 1)
    by_col = grid.permute(2, 0, 1, 3).reshape(w, batch * heads * h, dim)
    term_w = (by_col @ rel_w.transpose(1, 2)).reshape(w, batch * heads, h, w).permute(1, 2, 0, 3)
    return term_h.reshape(batch, heads, h * w, h), term_w.reshape(batch, heads, h * w, w)


def _bias(q: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the sum of both terms for every pair of positions: [B, heads, H*W, H*W]."""
    h, w = size
    term_h, term_w = _rel_terms(q, rel_h, rel_w, size)
    return (term_h.unsqueeze(-1) + term_w.unsqueeze(-2)).reshape(*q.shape[:3], h * w)


def _attend_add(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> Tensor:
    scale = q.shape[-1] ** -0.5
    scores = (q * scale) @ k.transpose(-2, -1) + _bias(q, rel_h, rel_w, size)
    return scores.softmax(dim=-1) @ v


def _attend_mask(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_bias(q, rel_h, rel_w, size))


def _attend_folded(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> Tensor:
    """With q' = [q*s, q.rel_h, q.rel_w] and k' = [k, one-hot], the score is just q'.k'."""
    h, w = size
    batch, heads, tokens, dim = q.shape
    term_h, term_w = _rel_terms(q, rel_h, rel_w, size)
    long_q = torch.cat([q * dim**-0.5, term_h, term_w], dim=-1)
    rows = torch.eye(h, dtype=k.dtype, device=k.device).repeat_interleave(w, dim=0)
    cols = torch.eye(w, dtype=k.dtype, device=k.device).repeat(h, 1)
    one_hot = torch.cat([rows, cols], dim=-1).expand(batch, heads, tokens, h + w)
    return F.scaled_dot_product_attention(long_q, torch.cat([k, one_hot], dim=-1), v, scale=1.0)


ATTENTION_FORMS: dict[AttentionForm, Attend] = {
    AttentionForm.ADD: _attend_add,
    AttentionForm.MASK: _attend_mask,
    AttentionForm.FOLDED: _attend_folded,
}
