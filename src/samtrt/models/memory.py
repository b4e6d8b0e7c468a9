"""What SAM 2 remembers of earlier frames: memories, object pointers, and attention to both.

Parameter names and results are those of the official `modeling/memory_attention.py`,
`memory_encoder.py` and `sam2_base.py` (Ravi et al., 2024). Every shape is fixed: memories and
pointers lie in queues whose empty places are masked, and rotary positions are computed with real
numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.layers import MLP, LayerNorm2d
from samtrt.models.perceiver import Perceiver
from samtrt.models.rotary import RotaryAttention, Tokens
from samtrt.registry import Sam2Spec

MEMORY_CHANNELS = 64
MEMORIES = 7
"""Places in time that memories are told apart by: prompted frames, and the last six."""
POINTERS = 16
"""Object pointers that a frame attends to."""


class MemoryAttentionLayer(nn.Module):
    """One layer of `MemoryAttention`.

    Attributes:
        feed: What does as the two linear layers, given this layer and cells [N, HW, C]; None for
            them.
    """

    def __init__(self, dim: int, side: int, memory: Tokens, hidden: int = 2048) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(dim, dim, side)
        self.cross_attn_image = RotaryAttention(dim, MEMORY_CHANNELS, side, memory)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.feed: Callable[[MemoryAttentionLayer, Tensor], Tensor] | None = None

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, tokens: int) -> Tensor:
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, normed)
        x = x + self.cross_attn_image(self.norm2(x), keys, values, mask, unplaced=tokens)
        normed = self.norm3(x)
        if self.feed is not None:
            return x + self.feed(self, normed)
        return x + self.linear2(F.relu(self.linear1(normed)))


class MemoryAttention(nn.Module):
    """From the image's cells to what they are in the light of memories."""

    def __init__(self, dim: int, side: int, memory: Tokens, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(dim, side, memory) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, tokens: int) -> Tensor:
        for layer in self.layers:
            x = layer(x, keys, values, mask, tokens)
        return self.norm(x)


class MaskDownSampler(nn.Module):
    """[N, 1, S, S] to [N, C, S/16, S/16] by four strided convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (1, 4, 16, 64):
            layers += [
                nn.Conv2d(width, 4 * width, kernel_size=3, stride=2, padding=1),
                LayerNorm2d(4 * width),
                nn.GELU(),
            ]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(256, dim, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.encoder(x)
        return out


class FuserBlock(nn.Module):
    """A ConvNeXt block (official `CXBlock`)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm.channels_last(self.dwconv(x).permute(0, 2, 3, 1))
        rows = self.gamma * self.pwconv2(F.gelu(self.pwconv1(rows)))
        return x + rows.permute(0, 3, 1, 2)


class Fuser(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FuserBlock(dim) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """From an image's cells and a mask to a memory of the frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownSampler(dim)
        self.pix_feat_proj = nn.Conv2d(dim, dim, kernel_size=1)
        self.fuser = Fuser(dim)
        self.out_proj = nn.Conv2d(dim, MEMORY_CHANNELS, kernel_size=1)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Map [1, C, S/16, S/16] and masks [N, 1, S, S] to [N, 64, S/16, S/16].

        Masks are of the range that the model was trained with, -10..10.
        """
        # Before the convolution: OpenVINO adds shapes to its result in place, which is one image's.
        image = self.pix_feat_proj(features.expand(masks.shape[0], -1, -1, -1))
        out: Tensor = self.out_proj(self.fuser(image + self.mask_downsampler(masks)))
        return out


class Memory(nn.Module):
    """All of a SAM 2 that is for video alone."""

    def __init__(self, spec: Sam2Spec) -> None:
        super().__init__()
        dim, self.side = spec.prompt_embed_dim, spec.embedding_size
        self.tokens = Tokens.of(spec)
        self.memory_attention = MemoryAttention(dim, self.side, self.tokens, spec.memory_layers)
        self.memory_encoder = MemoryEncoder(dim)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(MEMORIES, 1, 1, MEMORY_CHANNELS))
        # Of the first frame; the published models add no_mem_embed there, and never this.
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, dim))
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.obj_ptr_proj = MLP(dim, dim, dim, 3)
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, dim))
        is_newer = spec.version == "2.1"
        self.obj_ptr_tpos_proj = nn.Linear(dim, MEMORY_CHANNELS) if is_newer else None
        self.no_obj_embed_spatial = (
            nn.Parameter(torch.zeros(1, MEMORY_CHANNELS)) if is_newer else None
        )
        self.spatial_perceiver = None
        if spec.latents_2d:
            self.spatial_perceiver = Perceiver(
                MEMORY_CHANNELS, spec.latents, spec.latents_2d, self.side
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one memory: [64, G, G], or [T, 64] where it is made of T tokens."""
        if self.spatial_perceiver is None:
            return MEMORY_CHANNELS, self.side, self.side
        return self.tokens.count, MEMORY_CHANNELS
