"""SAM's two-way transformer and mask decoder.

Parameter names and results are those of the official `modeling/transformer.py` and
`modeling/mask_decoder.py`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.image_kernels import NUM_HEADS, NUM_MASKS, Image, ImageKernels
from samtrt.models.layers import MLP, LayerNorm2d, MLPBlock


class CrossAttention(nn.Module):
    """Multi-head attention whose inner width may be smaller than its input's.

    Where one side is a few tokens and the other the whole image, the projections of the image's
    side are applied to the tokens instead: q.k = (W_q x).(W_k y) = (W_k^T W_q x).y. With T tokens
    and h heads the image is then multiplied by h T columns, fewer than by its own projections for
    up to about 12 points, and never rearranged into heads. The results are those of `forward` but
    for rounding.
    """

    def __init__(self, dim: int, num_heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.num_heads = num_heads
        self.scale = (inner // num_heads) ** -0.5
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def _split(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        return x.reshape(batch, tokens, self.num_heads, -1).transpose(1, 2)

    def _of_heads(self, weight: Tensor) -> Tensor:
        """View a projection's weight [inner, dim] as [heads, inner / heads, dim]."""
        return weight.reshape(self.num_heads, -1, weight.shape[1])

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q [P, T, C] to k and v [P, S, C]."""
        q, k, v = (
            self._split(self.q_proj(q) * self.scale),
            self._split(self.k_proj(k)),
            self._split(self.v_proj(v)),
        )
        out = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def tokens_to_image(self, kernels: ImageKernels, tokens: Tensor, image: Image) -> Tensor:
        """As `forward`, from tokens [P, T, C] to the image, whose cells are keys and values."""
        # The bias of k_proj adds the same to all of a query's scores, which softmax ignores.
        queries = self._split(self.q_proj(tokens) * self.scale) @ self._of_heads(self.k_proj.weight)
        mixed = kernels.tokens_to_image(queries.flatten(1, 2), image)
        return self.of_mixed(mixed.reshape(queries.shape))

    def of_mixed(self, mixed: Tensor) -> Tensor:
        """Finish `tokens_to_image` from what each head mixed of the image: [P, heads, T, C]."""
        # Each row of attention sums to one, so that the bias of v_proj comes through unchanged.
        out = mixed @ self._of_heads(self.v_proj.weight).transpose(-2, -1)
        return self.out_proj(out.transpose(1, 2).flatten(2) + self.v_proj.bias)

    def image_to_tokens(
        self, kernels: ImageKernels, image: Image, k: Tensor, v: Tensor, norm: nn.LayerNorm
    ) -> Tensor:
        """Norm of the image plus `forward` of it, for few keys and values k, v [P, T, C]."""
        heads = self._split(self.k_proj(k) * self.scale)
        keys = (heads @ self._of_heads(self.q_proj.weight)).flatten(1, 2)
        offsets = (heads @ self.q_proj.bias.reshape(self.num_heads, -1, 1)).flatten(1)
        out = self._of_heads(self.out_proj.weight.t()).contiguous()
        # A row of attention sums to one in each head: the bias, shared out, needs no own addition.
        values = self._split(self.v_proj(v)) @ out + self.out_proj.bias / self.num_heads
        return kernels.image_to_tokens(image, keys, offsets, values.flatten(1, 2), norm)


class TwoWayAttentionBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image to the tokens.

    Attributes:
        projects_image: Tokens attend to keys and values of the image, as officially. In the first
            block no point has touched the image, so that these need not be made again at every
            click by who keeps them (`samtrt.backends.in_parts`); elsewhere they cost more.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, skip_first_pe: bool) -> None:
        super().__init__()
        self.self_attn = CrossAttention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = CrossAttention(dim, num_heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, mlp_dim, F.relu)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = CrossAttention(dim, num_heads, downsample=2)
        self.skip_first_pe = skip_first_pe
        self.projects_image = False

    def forward(
        self, kernels: ImageKernels, tokens: Tensor, image: Tensor, token_pe: Tensor, pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.skip_first_pe:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        placed = Image(image, pe, image + pe)
        attention, queries = self.cross_attn_token_to_image, tokens + token_pe
        if self.projects_image:
            tokens = tokens + attention(queries, placed.keys, placed.rows)
        else:
            tokens = tokens + attention.tokens_to_image(kernels, queries, placed)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        attention = self.cross_attn_image_to_token
        return tokens, attention.image_to_tokens(
            kernels, placed, tokens + token_pe, tokens, self.norm4
        )


class TwoWayTransformer(nn.Module):
    def __init__(self, depth: int, dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(dim, num_heads, mlp_dim, skip_first_pe=i == 0)
            for i in range(depth)
        )
        self.final_attn_token_to_image = CrossAttention(dim, num_heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def project_image(self, projects: bool) -> None:
        """Choose whether the first block projects the image: see `TwoWayAttentionBlock`."""
        first: Any = self.layers[0]
        first.projects_image = projects

    def forward(
        self, kernels: ImageKernels, image: Tensor, pe: Tensor, tokens: Tensor, wanted: int
    ) -> tuple[Tensor, Tensor]:
        """Let tokens [P, T, C] and image [P, HW, C] attend to each other.

        Returns the first `wanted` tokens and the image; pe is the image's, [1, HW, C].
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(kernels, tokens, image, token_pe, pe)
        tokens, token_pe = tokens[:, :wanted], token_pe[:, :wanted]
        attention = self.final_attn_token_to_image
        placed = Image(image, pe, image + pe)
        attended = attention.tokens_to_image(kernels, tokens + token_pe, placed)
        return self.norm_final_attn(tokens + attended), image


class MaskDecoder(nn.Module):
    """Image embedding and prompt embeddings to four masks and their predicted IoU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, dim=dim, num_heads=NUM_HEADS, mlp_dim=2048)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(NUM_MASKS, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(dim, dim, dim // 8, 3) for _ in range(NUM_MASKS)
        )
        self.iou_prediction_head = MLP(dim, 256, NUM_MASKS, 3)

    def forward(
        self,
        kernels: ImageKernels,
        image: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        side: int,
        *further: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode every prompt against its image, whose cells are rows: no layout is changed.

        Args:
            kernels: What runs over the whole image.
            image: [P, HW, 256], image embedding plus dense prompt embedding.
            image_pe: [1, HW, 256].
            sparse: [P, N, 256].
            side: Height and width of the embedding, so that HW is side x side.
            further: Other maps of the image, for decoders that take some.

        Returns:
            Low-res logits [P, 4, 4 * side, 4 * side] and IoU predictions [P, 4]. Mask 0 is the one
            for `multimask_output=False`; which masks a caller sees is decided outside.
        """
        tokens, image = self.attend(kernels, image, image_pe, sparse)
        masks = self.masks(kernels, image, tokens, side, *further)
        return masks, self.iou_prediction_head(tokens[:, 0])

    def attend(
        self, kernels: ImageKernels, image: Tensor, image_pe: Tensor, sparse: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer, and return the fixed tokens [P, T, 256] and the image [P, HW, 256].

        Arguments as of `forward`.
        """
        fixed = self.fixed_tokens()
        # Broadcast by expand: repeat_interleave becomes OneHot and Tile, which TensorRT rejects.
        tokens = torch.cat([fixed.unsqueeze(0).expand(sparse.shape[0], -1, -1), sparse], dim=1)
        attended: tuple[Tensor, Tensor] = self.transformer(
            kernels, image, image_pe, tokens, wanted=len(fixed)
        )
        return attended

    def fixed_tokens(self) -> Tensor:
        """Return the tokens that stand before those of every prompt: [T, 256]."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight], dim=0)

    def masks(
        self, kernels: ImageKernels, image: Tensor, tokens: Tensor, side: int, *further: Tensor
    ) -> Tensor:
        """Make low-res logits of what the transformer gave: image [P, HW, 256] and tokens."""
        del further
        return kernels.upscale(image, self.mask_weights(tokens), self.output_upscaling, side)

    def mask_weights(self, tokens: Tensor) -> Tensor:
        """Return what weighs the upscaled channels to each mask: [P, 4, 32]."""
        return torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
