"""EdgeTAM's memories: what a frame's cells say, in few tokens.

Parameter names and results are those of the official `modeling/perceiver.py` (Zhou et al., 2025):
some latents see the whole image, the others one square of it each.
"""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LAYERS = 2


def feed_forward(dim: int) -> nn.Sequential:
    hidden = 4 * dim
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, hidden, bias=False),
        nn.GELU(),
        nn.Linear(hidden, dim, bias=False),
    )


class SingleHead(nn.Module):
    """Attention of one head, without norms and biases."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def attend(self, latents: Tensor, x: Tensor, places: Tensor | None = None) -> Tensor:
        """Attend from latents [N, L, C] to x [N, K, C], to whose keys and values places belong."""
        k, v = self.to_kv(x).chunk(2, dim=-1)
        if places is not None:
            k, v = k + places, v + places
        if x.shape[1] == 1:  # all of the attention is on the only token
            return self.to_out(v)
        q, k, v = (one.unsqueeze(1) for one in (self.to_q(latents), k, v))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).squeeze(1))


class CrossAttention(SingleHead):
    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.norm_x, self.norm_latents = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, latents: Tensor, x: Tensor, places: Tensor | None) -> Tensor:
        return self.attend(self.norm_latents(latents), self.norm_x(x), places)


class SelfAttention(SingleHead):
    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        return self.attend(normed, normed)


class PerceiverLayer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn, self.ff = CrossAttention(dim), feed_forward(dim)
        self.self_attn, self.self_ff = SelfAttention(dim), feed_forward(dim)

    def forward(self, latents: Tensor, x: Tensor, places: Tensor | None) -> Tensor:
        latents = latents + self.attn(latents, x, places)
        latents = latents + self.ff(latents)
        latents = latents + self.self_attn(latents)
        return latents + self.self_ff(latents)


class Perceiver(nn.Module):
    """A memory [N, C, G, G] to tokens [N, L, C], those of the whole image first."""

    def __init__(self, dim: int, latents: int, latents_2d: int, side: int) -> None:
        """Take the numbers of both kinds of latents, and the side G of the image's grid."""
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(latents, dim))
        self.latents_2d = nn.Parameter(torch.zeros(latents_2d, dim))
        self.layers = nn.ModuleList(PerceiverLayer(dim) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(dim)
        self.squares = isqrt(latents_2d)
        self.width = side // self.squares

    def forward(self, memories: Tensor, places: Tensor) -> Tensor:
        """Do so.

        Args:
            memories: [N, C, G, G].
            places: Encoded places of the cells [1, G * G, C].
        """
        count, dim = memories.shape[0], memories.shape[1]
        cells = memories.permute(0, 2, 3, 1)
        whole = self._through(
            self.latents.expand(count, -1, -1), cells.flatten(1, 2), places.expand(count, -1, -1)
        )
        # Squares are a batch of their own: each has one latent, which attends to itself alone.
        squares, width = self.squares, self.width
        cut = cells.reshape(-1, squares, width, squares, width, dim).transpose(2, 3)
        local = self._through(
            self.latents_2d.expand(count, -1, -1).reshape(-1, 1, dim),
            cut.reshape(-1, width * width, dim),
            None,
        )
        return self.norm(torch.cat([whole, local.reshape(count, -1, dim)], dim=1))

    def _through(self, latents: Tensor, x: Tensor, places: Tensor | None) -> Tensor:
        for layer in self.layers:
            latents = layer(latents, x, places)
        return latents
