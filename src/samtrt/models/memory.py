"""What SAM 2 remembers of earlier frames: memories, object pointers, and attention to both.

Parameter names and results are those of the official `modeling/memory_attention.py`,
`memory_encoder.py` and `sam2_base.py` (Ravi et al., 2024). Every shape is fixed: memories and
pointers lie in queues whose empty places are masked, and rotary positions are computed with real
numbers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.layers import MLP, LayerNorm2d
from samtrt.registry import HieraSpec

MEMORY_CHANNELS = 64
MEMORIES = 7
"""Places in time that memories are told apart by: prompted frames, and the last six."""
POINTERS = 16
"""Object pointers that a frame attends to."""
_LAYERS = 4
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


class RotaryAttention(nn.Module):
    """Attention of one head whose queries and keys are turned by their places in the image.

    The official code takes neighbouring channels as a complex number. Scores are blind to the order
    of channels, as long as queries and keys have the same: here the real parts come first.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, memory_dim: int, side: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(memory_dim, dim)
        self.v_proj = nn.Linear(memory_dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.side = side
        for name, table in zip(("cos", "sin"), rotary_tables(dim, side), strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, unplaced: int = 0
    ) -> Tensor:
        """Attend from q [N, HW, C] to k and v [N, K, C'].

        Args:
            q: Cells of the image.
            k: Cells of one or several images, behind one another, and then `unplaced` tokens that
                have no place.
            v: As k.
            mask: [N, K], added to scores: 0 where there is a key, and far below where there is
                none. None where all keys are the image's cells.
            unplaced: Number of the last keys that are not turned; 0 without a mask.
        """
        q = self._turned(self._in_halves(self.q_proj, q))
        k = self._in_halves(self.k_proj, k)
        placed = k.shape[1] - unplaced
        images = k[:, :placed].reshape(k.shape[0], -1, self.side**2, k.shape[2])
        turned = self._turned(images).flatten(1, 2)
        k = turned if mask is None else torch.cat([turned, k[:, placed:]], dim=1)
        attn_mask = None if mask is None else mask[:, None, None]
        q, k, v = (one.unsqueeze(1) for one in (q, k, self.v_proj(v)))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(out.squeeze(1))

    @staticmethod
    def _in_halves(projection: nn.Linear, x: Tensor) -> Tensor:
        """Project x, real parts before imaginary ones."""
        weight, bias = projection.weight, projection.bias
        return F.linear(
            x,
            torch.cat([weight[0::2], weight[1::2]]),
            torch.cat([bias[0::2], bias[1::2]]),
        )

    def _turned(self, x: Tensor) -> Tensor:
        """Turn [..., HW, C] by the cells' places."""
        real, imaginary = x.chunk(2, dim=-1)
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1)


class MemoryAttentionLayer(nn.Module):
    def __init__(self, dim: int, side: int, hidden: int = 2048) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(dim, dim, side)
        self.cross_attn_image = RotaryAttention(dim, MEMORY_CHANNELS, side)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, tokens: int) -> Tensor:
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, normed)
        x = x + self.cross_attn_image(self.norm2(x), keys, values, mask, unplaced=tokens)
        return x + self.linear2(F.relu(self.linear1(self.norm3(x))))


class MemoryAttention(nn.Module):
    """From the image's cells to what they are in the light of memories."""

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(dim, side) for _ in range(_LAYERS))
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

    def __init__(self, spec: HieraSpec) -> None:
        super().__init__()
        dim, self.side = spec.prompt_embed_dim, spec.embedding_size
        self.memory_attention = MemoryAttention(dim, self.side)
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
