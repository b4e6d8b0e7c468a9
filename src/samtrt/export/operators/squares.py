"""What attention within squares of a grid has in common, on PyTorch's tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def attend_padded(
    qkv: Tensor, qkv_bias: Tensor, side: int, attend: Callable[[Tensor], Tensor]
) -> Tensor:
    """Attend over a grid that is padded to whole squares by what the bias gives.

    Args:
        qkv: [B, 3C, G, G], bias added.
        qkv_bias: [3C].
        side: Of the squares, in tokens.
        attend: Maps [B, P, P, 3C], P a multiple of `side`, to [B, P / stride, P / stride, C].

    Returns:
        [B, C, G / stride, G / stride].
    """
    batch, width, grid, _ = qkv.shape
    whole = -(-grid // side) * side
    padded = qkv_bias.expand(batch, whole, whole, width).clone()
    padded[:, :grid, :grid] = qkv.permute(0, 2, 3, 1)
    out = attend(padded)
    left = grid * out.shape[1] // whole
    return out[:, :left, :left].permute(0, 3, 1, 2).contiguous()
