"""SAM-HQ's mask decoder: one more token, and a mask from finer features that is added to SAM's.

Parameter names and results are those of the official `modeling/mask_decoder_hq.py`
(Ke et al., 2023). What depends on the image alone is computed once an image, with the encoder, and
is a map of its own: there the official decoder computes it again for each prompt.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.image_kernels import ImageKernels
from samtrt.models.layers import MLP, LayerNorm2d
from samtrt.models.mask_decoder import MaskDecoder


class MaskDecoderHq(MaskDecoder):
    """As `MaskDecoder`, with the HQ mask in each of the four.

    Attributes:
        hq_token_only: Give the HQ mask alone, four times, in place of the sums.
        weighs_first: Weigh the last convolution's taps by the token before they meet the image,
            which leaves 9 channels of 32 to sum up.
    """

    def __init__(self, dim: int, early_dim: int) -> None:
        super().__init__(dim)
        self.hq_token_only = self.weighs_first = False
        self.hf_token = nn.Embedding(1, dim)
        self.hf_mlp = MLP(dim, dim, dim // 8, 3)
        self.compress_vit_feat = _upscaling(early_dim, dim, dim // 8)
        self.embedding_encoder = _upscaling(dim, dim // 4, dim // 8)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(dim // 8, dim // 4, 3, padding=1),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.Conv2d(dim // 4, dim // 8, 3, padding=1),
        )

    def fixed_tokens(self) -> Tensor:
        return torch.cat([super().fixed_tokens(), self.hf_token.weight])

    def features(self, embedding: Tensor, early: Tensor) -> Tensor:
        """Make the HQ features of images: [B, 32, 4 G, 4 G].

        Args:
            embedding: [B, 256, G, G], as the decoder takes it.
            early: [B, C, G, G], what an early block of the encoder gave.
        """
        return self.embedding_encoder(embedding) + self.compress_vit_feat(early)

    def masks(
        self, kernels: ImageKernels, image: Tensor, tokens: Tensor, side: int, *further: Tensor
    ) -> Tensor:
        del kernels  # they have the masks alone, and the features that these are made of count here
        (features,) = further
        cells = image.transpose(1, 2).reshape(*image.shape[::2], side, side)
        upscaled = self.output_upscaling(cells)
        weights = self.hf_mlp(tokens[:, -1]).unsqueeze(1)
        if self.weighs_first:
            hq = self._weighed(weights, upscaled) + _products(weights, features)
        else:
            hq = _products(weights, self.embedding_maskfeature(upscaled) + features)
        if self.hq_token_only:
            return hq.expand(-1, len(self.output_hypernetworks_mlps), -1, -1)
        return _products(self.mask_weights(tokens), upscaled) + hq

    def _weighed(self, weights: Tensor, upscaled: Tensor) -> Tensor:
        """Return what weights [P, 1, 32] make of the features of [P, 32, H, W]: [P, 1, H, W].

        A convolution of 3 x 3 is a product with its 9 taps, each moved to its place.
        """
        layers: Any = list(self.embedding_maskfeature)
        first, norm, activation, last = layers
        rows = activation(norm.channels_last(first(upscaled).permute(0, 2, 3, 1)))
        height, width, channels = rows.shape[1:]
        taps = (weights @ last.weight.flatten(1)).reshape(-1, channels, 9)
        planes = taps.transpose(1, 2) @ rows.flatten(1, 2).transpose(1, 2)
        padded = F.pad(planes.reshape(-1, 9, height, width), (1, 1, 1, 1))
        moved = [
            padded[:, tap : tap + 1, tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width]
            for tap in range(9)
        ]
        total: Tensor = sum(moved, start=(weights @ last.bias).reshape(-1, 1, 1, 1))
        return total


def _upscaling(width: int, middle: int, out: int) -> nn.Sequential:
    """[B, width, G, G] to [B, out, 4 G, 4 G]."""
    return nn.Sequential(
        nn.ConvTranspose2d(width, middle, kernel_size=2, stride=2),
        LayerNorm2d(middle),
        nn.GELU(),
        nn.ConvTranspose2d(middle, out, kernel_size=2, stride=2),
    )


def _products(weights: Tensor, features: Tensor) -> Tensor:
    """Weigh features [P, C, H, W] by weights [P, N, C]: [P, N, H, W]."""
    return (weights @ features.flatten(2)).reshape(*weights.shape[:2], *features.shape[2:])
