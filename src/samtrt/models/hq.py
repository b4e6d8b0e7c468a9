"""SAM-HQ's mask decoder: one more token, and a mask from finer features that is added to SAM's.

Parameter names and results are those of the official `modeling/mask_decoder_hq.py`
(Ke et al., 2023). What depends on the image alone is computed once an image, with the encoder, and
is a map of its own: there the official decoder computes it again for each prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samtrt.models.image_kernels import ImageKernels
from samtrt.models.layers import MLP, LayerNorm2d
from samtrt.models.mask_decoder import MaskDecoder


class MaskDecoderHq(MaskDecoder):
    """As `MaskDecoder`, with the HQ mask in each of the four.

    Attributes:
        hq_token_only: Give the HQ mask alone, four times, in place of the sums.
    """

    def __init__(self, dim: int, early_dim: int) -> None:
        super().__init__(dim)
        self.hq_token_only = False
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
        fine = self.embedding_maskfeature(upscaled) + features
        hq = _products(self.hf_mlp(tokens[:, -1]).unsqueeze(1), fine)
        if self.hq_token_only:
            return hq.expand(-1, len(self.output_hypernetworks_mlps), -1, -1)
        return _products(self.mask_weights(tokens), upscaled) + hq


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
