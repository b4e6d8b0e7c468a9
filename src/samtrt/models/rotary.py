"""Places in images and in time, encoded, and attention that is turned by places.

Results are those of the official `modeling/position_encoding.py` and `modeling/sam/transformer.py`
(Ravi et al., 2024), with real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.registry import Sam2Spec

_TEMPERATURE = 10000.0


def sine_grid(channels: int, side: int) -> Tensor:
    """Encode places of a grid: float32 [1, channels, side, side], y before x.

    Official `PositionEmbeddingSine`, normalised.
    """
    places = torch.arange(1, side + 1, dtype=torch.float32)
    angles = _angles(places / (side + 1e-6) * 2 * math.pi, channels // 2)
    pairs = torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)
    y = pairs[:, None].expand(side, side, -1)
    x = pairs[None].expand(side, side, -1)
    return torch.cat([y, x], dim=2).permute(2, 0, 1).unsqueeze(0)


def sine_times(distances: Tensor, channels: int) -> Tensor:
    """Encode distances in time [..., P], shares of the longest: [..., P, channels].

    Official `get_1d_sine_pe`.
    """
    angles = _angles(distances, channels // 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _angles(values: Tensor, count: int) -> Tensor:
    number = torch.arange(count, dtype=torch.float32, device=values.device)
    return values.unsqueeze(-1) / _TEMPERATURE ** (2 * (number // 2) / count)


def rotary_tables(channels: int, side: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines for each cell of a grid, [side * side, channels / 2], x before y.

    Official `compute_axial_cis`.
    """
    steps = torch.arange(0, channels, 4)[: channels // 4].float() / channels
    frequencies = 1.0 / _TEMPERATURE**steps
    cells = torch.arange(side * side, dtype=torch.float32)
    x, y = cells % side, torch.div(cells, side, rounding_mode="floor")
    angles = torch.cat([torch.outer(x, frequencies), torch.outer(y, frequencies)], dim=1)
    return angles.cos(), angles.sin()


@dataclass(frozen=True)
class Tokens:
    """What one memory is made of.

    Attributes:
        side: Of the grid that its tokens with a place are cells of.
        unplaced: How many tokens without a place come before those.
    """

    side: int
    unplaced: int = 0

    @classmethod
    def of(cls, spec: Sam2Spec) -> Tokens:
        """Return what a model's memories are made of."""
        if spec.latents_2d:
            return cls(math.isqrt(spec.latents_2d), spec.latents)
        return cls(spec.embedding_size)

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return self.unplaced + self.side**2

    def places(self, channels: int) -> Tensor:
        """Encode the tokens' places: [1, T, channels], zeros for those that have none."""
        cells = sine_grid(channels, self.side).flatten(2).transpose(1, 2)
        return F.pad(cells, (0, 0, self.unplaced, 0))


Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Queries [N, HW, C], keys [N, K, C], values [N, K, C'] and a mask [N, K] to [N, HW, C']."""


def mix_values(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Do what `Kernel` says in a product, a softmax and a product."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)
    if mask is not None:
        scores = scores + mask.unsqueeze(1)
    return scores.softmax(dim=-1) @ v


class RotaryAttention(nn.Module):
    """Attention of one head whose queries and keys are turned by their places in the image.

    The official code takes neighbouring channels as a complex number. Scores are blind to the order
    of channels, as long as queries and keys have the same: here the real parts come first.

    Attributes:
        kernel: What mixes values by scores in the place of PyTorch's own function, which takes
            values as wide as keys alone; None for that.
    """

    cos: Tensor
    sin: Tensor
    key_cos: Tensor | None
    key_sin: Tensor | None

    def __init__(self, dim: int, memory_dim: int, side: int, keys: Tokens | None = None) -> None:
        """Take the widths of queries and of keys, the queries' grid, and what memories are made of.

        Keys are the queries' own cells, in one image or several, where `keys` is None.
        """
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(memory_dim, dim)
        self.v_proj = nn.Linear(memory_dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.kernel: Kernel | None = None
        self.side = side
        self.keys = None if keys == Tokens(side) else keys
        self.make_tables()

    def make_tables(self) -> None:
        """Compute cosines and sines, which are in no state dict."""
        dim = self.q_proj.out_features
        tables: list[Tensor | None] = [*rotary_tables(dim, self.side), None, None]
        if self.keys is not None:
            cos, sin = rotary_tables(dim, self.keys.side)
            # Tokens without a place are turned by nothing.
            before = (0, 0, self.keys.unplaced, 0)
            tables[2:] = F.pad(cos, before, value=1.0), F.pad(sin, before)
        for name, table in zip(("cos", "sin", "key_cos", "key_sin"), tables, strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, unplaced: int = 0
    ) -> Tensor:
        """Attend from q [N, HW, C] to k and v [N, K, C'].

        Args:
            q: Cells of the image.
            k: Cells of one or several images, or tokens of several memories, behind one another,
                and then `unplaced` tokens that have no place.
            v: As k.
            mask: [N, K], added to scores: 0 where there is a key, and far below where there is
                none. None where all keys are the image's cells.
            unplaced: Number of the last keys that are not turned; 0 without a mask.
        """
        cos, sin = self.cos, self.sin
        q = _turned(self._in_halves(self.q_proj, q), cos, sin)
        k = self._in_halves(self.k_proj, k)
        placed = k.shape[1] - unplaced
        if self.key_cos is not None and self.key_sin is not None:
            cos, sin = self.key_cos, self.key_sin
        images = k[:, :placed].reshape(k.shape[0], -1, cos.shape[0], k.shape[2])
        turned = _turned(images, cos, sin).flatten(1, 2)
        k = turned if mask is None else torch.cat([turned, k[:, placed:]], dim=1)
        return self.out_proj(self._mixed(q, k, v, mask))

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Project v [N, K, C'] and mix it by the scores of q and k: [N, HW, C]."""
        if self.kernel is not None:
            # Scores of a query sum to one, so that projection and bias may come after the mixing.
            return self.v_proj(self.kernel(q, k, v, mask))
        attn_mask = None if mask is None else mask[:, None, None]
        q, k, v = (one.unsqueeze(1) for one in (q, k, self.v_proj(v)))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask).squeeze(1)

    @staticmethod
    def _in_halves(projection: nn.Linear, x: Tensor) -> Tensor:
        """Project x, real parts before imaginary ones."""
        weight, bias = projection.weight, projection.bias
        return F.linear(
            x,
            torch.cat([weight[0::2], weight[1::2]]),
            torch.cat([bias[0::2], bias[1::2]]),
        )


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn [..., T, C], whose real parts come first, by tables [T, C / 2]."""
    real, imaginary = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1)
