"""Layers that the encoder and the decoder share, named as in official state dicts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of [B, C, H, W] (official `modeling/common.py`)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def channels_last(self, x: Tensor) -> Tensor:
        """Normalise [..., C] over its last axis: one node, and one to keep in float32."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.channels_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MLPBlock(nn.Module):
    """Linear, activation, linear (official `modeling/common.py`)."""

    def __init__(
        self, dim: int, hidden: int, activation: Callable[[Tensor], Tensor] = F.gelu
    ) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.activation(self.lin1(x)))


class MLP(nn.Module):
    """Linear layers with ReLU between (official `modeling/mask_decoder.py`)."""

    def __init__(self, in_dim: int, hidden: int, out_dim: int, depth: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
