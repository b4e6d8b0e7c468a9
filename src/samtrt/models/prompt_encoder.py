"""SAM's prompt encoder: points, boxes and masks to sparse and dense embeddings.

Parameter names and results are those of the official `modeling/prompt_encoder.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from samtrt.models.image_kernels import MaskWeights
from samtrt.models.layers import LayerNorm2d
from samtrt.preparation.prompts import LABEL_PADDING
from samtrt.registry import ModelSpec


class PositionEmbeddingRandom(nn.Module):
    """Random Fourier features of a position in the unit square (paper, section A)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, unit: Tensor) -> Tensor:
        """Map [..., 2] (x, y in 0..1) to [..., 2 * features]."""
        matrix = self.positional_encoding_gaussian_matrix
        angle = 2 * math.pi * ((2 * unit.to(matrix.dtype) - 1) @ matrix)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def grid(self, size: int) -> Tensor:
        """Encode the centres of a size x size grid: [1, 2 * features, size, size]."""
        matrix = self.positional_encoding_gaussian_matrix
        centres = (torch.arange(size, device=matrix.device, dtype=matrix.dtype) + 0.5) / size
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self(torch.stack([x, y], dim=-1)).permute(2, 0, 1).unsqueeze(0)


class PromptEncoder(nn.Module):
    """Encode prompts given in the frame of the padded input image.

    A box is two points with labels 2 (top left) and 3 (bottom right). Label -1 is the padding
    point that the official predictor adds when there are points and no box.
    """

    def __init__(self, spec: ModelSpec, mask_channels: int = 16) -> None:
        super().__init__()
        dim = spec.prompt_embed_dim
        self.image_size = spec.image_size
        self.embedding_size = spec.embedding_size
        self.pe_layer = PositionEmbeddingRandom(dim // 2)
        # Background, foreground, box top left, box bottom right.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        quarter = mask_channels // 4
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, quarter, kernel_size=2, stride=2),
            LayerNorm2d(quarter),
            nn.GELU(),
            nn.Conv2d(quarter, mask_channels, kernel_size=2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def dense_pe(self) -> Tensor:
        """Return the positional encoding of the image embedding: [1, 256, S/16, S/16]."""
        return self.pe_layer.grid(self.embedding_size)

    def sparse(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Embed points: coords [P, N, 2] in pixels, labels [P, N] in -1..3; [P, N, 256]."""
        position = self.pe_layer((coords + 0.5) / self.image_size)
        label = labels.unsqueeze(-1)
        position = torch.where(label == LABEL_PADDING, torch.zeros_like(position), position)
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        for value, kind in enumerate(kinds, start=LABEL_PADDING):
            here = (label == value).to(position.dtype)
            position = position + kind.weight.to(position.dtype) * here
        return position

    def mask_weights(self) -> MaskWeights:
        """Return what masks are embedded with, to `image_kernels`."""
        return MaskWeights.of(self.mask_downscaling, self.no_mask_embed.weight[0])
