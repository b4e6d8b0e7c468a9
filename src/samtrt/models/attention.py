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

TILE_SCORES = 1 << 24
"""Scores that the tiled form holds at a time: 64 MiB in float32, where ViT-B's are 805 MB."""

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


def _sum(term_h: Tensor, term_w: Tensor) -> Tensor:
    """Add [..., queries, H] and [..., queries, W] for every key: [..., queries, H*W]."""
    return (term_h.unsqueeze(-1) + term_w.unsqueeze(-2)).flatten(-2)


def _attend_add(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> Tensor:
    scale = q.shape[-1] ** -0.5
    scores = (q * scale) @ k.transpose(-2, -1) + _sum(*_rel_terms(q, rel_h, rel_w, size))
    return scores.softmax(dim=-1) @ v


def _attend_tiled(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> Tensor:
    """As `_attend_add`, for some rows of the grid at a time, so that scores stay small."""
    h, w = size
    _, heads, tokens, dim = q.shape
    rows = max(1, TILE_SCORES // (heads * tokens * w))
    if rows >= h:
        return _attend_add(q, k, v, rel_h, rel_w, size)
    keys = k.transpose(-2, -1)
    by_query = (q * dim**-0.5, *_rel_terms(q, rel_h, rel_w, size))
    tiles = zip(*(tensor.split(rows * w, dim=2) for tensor in by_query), strict=True)
    done = [
        (part @ keys + _sum(term_h, term_w)).softmax(dim=-1) @ v for part, term_h, term_w in tiles
    ]
    return torch.cat(done, dim=2)


def _attend_mask(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=_sum(*_rel_terms(q, rel_h, rel_w, size))
    )


def _attend_folded(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, size: tuple[int, int]
) -> Tensor:
    """With q' = [q*s, q.rel_h, q.rel_w] and k' = [k, one-hot], the score is just q'.k'.

    All three are brought to one width, a multiple of 8: PyTorch's flash attention takes no others,
    and TensorRT 8.6 gives wrong numbers where v is narrower.
    """
    h, w = size
    batch, heads, tokens, dim = q.shape
    term_h, term_w = _rel_terms(q, rel_h, rel_w, size)
    rows = torch.eye(h, dtype=k.dtype, device=k.device).repeat_interleave(w, dim=0)
    cols = torch.eye(w, dtype=k.dtype, device=k.device).repeat(h, 1)
    one_hot = torch.cat([rows, cols], dim=-1).expand(batch, heads, tokens, h + w)
    extra = -(dim + h + w) % 8
    long_q = F.pad(torch.cat([q * dim**-0.5, term_h, term_w], dim=-1), (0, extra))
    long_k = F.pad(torch.cat([k, one_hot], dim=-1), (0, extra))
    long_v = F.pad(v, (0, h + w + extra))
    return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :dim]


ATTENTION_FORMS: dict[AttentionForm, Attend] = {
    AttentionForm.ADD: _attend_add,
    AttentionForm.TILED: _attend_tiled,
    AttentionForm.MASK: _attend_mask,
    AttentionForm.FOLDED: _attend_folded,
}
