"""Layers that the encoder and the decoder share, named as in official state dicts."""

from __future__ import annotations

import copy
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


class Norm2d(nn.Module):
    """Batch norm of [B, C, H, W] by what training measured, without its counter of batches."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)

    def folded_into(self, conv: nn.Conv2d) -> nn.Conv2d:
        """Return one convolution that does as `conv` and this norm after it."""
        scale = self.weight.detach() / (self.running_var + self.eps).sqrt()
        shift = self.bias.detach() - self.running_mean * scale
        if conv.bias is not None:
            shift = shift + conv.bias.detach() * scale
        whole = copy.copy(conv)
        whole._parameters = {
            "weight": nn.Parameter(conv.weight.detach() * scale[:, None, None, None]),
            "bias": nn.Parameter(shift),
        }
        return whole


class ConvNorm(nn.Sequential):
    """A convolution without bias and its batch norm."""

    def __init__(self, width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = kernel // 2
        self.add_module(
            "c", nn.Conv2d(width, out, kernel, stride, padding, groups=groups, bias=False)
        )
        self.add_module("bn", Norm2d(out))


def fold_norms(module: nn.Module) -> None:
    """Fold every batch norm that follows a convolution in `module` into it, for good.

    Where a convolution and its norm are neighbours among a module's children, the one is replaced
    and the other becomes the identity.
    """
    for parent in module.modules():
        names = list(parent._modules)
        for name, following in pairwise(names):
            conv, norm = parent._modules[name], parent._modules[following]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, Norm2d):
                parent._modules[name] = norm.folded_into(conv)
                parent._modules[following] = nn.Identity()


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
