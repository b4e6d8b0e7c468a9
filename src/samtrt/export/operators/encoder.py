"""The image encoder as TensorRT's plugin runs it: 1x1 convolutions around four operators.

TensorRT takes convolutions one by one, with its fastest kernels, where it makes one slow region of
matrix products and attention. Channels come first here and lie last in TensorRT's memory, so that
nothing is ever moved: windows are cut inside the attention operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samtrt.choices import AttentionForm
from samtrt.errors import MissingExtraError

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("Exporting", "export", error.name or "torch") from None

from samtrt.export.operators.functions import ADD_LAYER_NORM, ATTENTION, GELU, LAYER_NORM
from samtrt.export.operators.graph import PLUGIN_ATTRIBUTES
from samtrt.export.operators.operator import FLOAT, INT, declare_operator
from samtrt.models.vit import Attention, ImageEncoderViT, attend_squares, row_distances


@torch.library.custom_op("samtrt::rel_pos_attention", mutates_args=())
def rel_pos_attention(
    qkv: Tensor,
    qkv_bias: Tensor,
    rel_pos_h: Tensor,
    rel_pos_w: Tensor,
    num_heads: int,
    window: int,
) -> Tensor:
    """Attend within the grid or its windows.

    Args:
        qkv: [B, 3C, G, G], bias added; channels are q, k, v, each by head.
        qkv_bias: [3C], q, k and v of the tokens that pad windows.
        rel_pos_h: [2S - 1, C / num_heads] with S = window or G; a row for each distance of rows.
        rel_pos_w: The same for columns.
        num_heads: Number of heads.
        window: Side of the windows in tokens, 0 for none.

    Returns:
        [B, C, G, G].
    """
    batch, width, grid, _ = qkv.shape
    side = window or grid
    whole = -(-grid // side) * side
    padded = qkv_bias.expand(batch, whole, whole, width).clone()
    padded[:, :grid, :grid] = qkv.permute(0, 2, 3, 1)
    distance = row_distances(side).to(qkv.device)
    out = attend_squares(
        padded, rel_pos_h[distance], rel_pos_w[distance], num_heads, AttentionForm.TILED
    )
    return out[:, :grid, :grid].permute(0, 3, 1, 2).contiguous()


rel_pos_attention.register_fake(
    lambda qkv, *_: qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3, *qkv.shape[2:])
)


@torch.library.custom_op("samtrt::layer_norm", mutates_args=())
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Normalise [B, C, G, G] over C, in float32."""
    last = F.layer_norm(
        x.permute(0, 2, 3, 1).float(), weight.shape, weight.float(), bias.float(), epsilon
    )
    return last.to(x.dtype).permute(0, 3, 1, 2).contiguous()


layer_norm.register_fake(lambda x, *_: x.new_empty(x.shape))


@torch.library.custom_op("samtrt::add_layer_norm", mutates_args=())
def add_layer_norm(
    x: Tensor, delta: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return x + delta and that normalised over channels; all [B, C, G, G]."""
    total = (x + delta).contiguous()
    return total, layer_norm(total, weight, bias, epsilon)


add_layer_norm.register_fake(lambda x, *_: (x.new_empty(x.shape), x.new_empty(x.shape)))


@torch.library.custom_op("samtrt::gelu", mutates_args=())
def gelu(x: Tensor) -> Tensor:
    """Return GELU of [B, C, G, G], by its error function."""
    return F.gelu(x)


gelu.register_fake(lambda x: x.new_empty(x.shape))


_ATTENTION_NODE = declare_operator(
    ATTENTION, "qkv qkv_bias rel_pos_h rel_pos_w", "out", num_heads=INT, window=INT
)
_LAYER_NORM_NODE = declare_operator(LAYER_NORM, "x weight bias", "y", epsilon=FLOAT)
_ADD_LAYER_NORM_NODE = declare_operator(
    ADD_LAYER_NORM, "x delta weight bias", "sum y", epsilon=FLOAT
)


_GELU_NODE = declare_operator(GELU, "x", "y")


def _write_attention(
    qkv: Any, qkv_bias: Any, rel_pos_h: Any, rel_pos_w: Any, num_heads: int, window: int
) -> Any:
    attributes = {"num_heads": num_heads, "window": window, **PLUGIN_ATTRIBUTES}
    return _ATTENTION_NODE(qkv, qkv_bias, rel_pos_h, rel_pos_w, **attributes)


def _write_layer_norm(x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    return _LAYER_NORM_NODE(x, weight, bias, epsilon=epsilon, **PLUGIN_ATTRIBUTES)


def _write_add_layer_norm(x: Any, delta: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    return _ADD_LAYER_NORM_NODE(x, delta, weight, bias, epsilon=epsilon, **PLUGIN_ATTRIBUTES)


def _write_gelu(x: Any) -> Any:
    return _GELU_NODE(x, **PLUGIN_ATTRIBUTES)


ENCODER_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.samtrt.rel_pos_attention.default: _write_attention,
    torch.ops.samtrt.layer_norm.default: _write_layer_norm,
    torch.ops.samtrt.add_layer_norm.default: _write_add_layer_norm,
    torch.ops.samtrt.gelu.default: _write_gelu,
}
"""How PyTorch's exporter writes the operators."""


class FusedEncoder(nn.Module):
    """`ImageEncoderViT` in the plugin's operators: the same weights, input, output and numbers."""

    def __init__(self, encoder: ImageEncoderViT) -> None:
        super().__init__()
        self.patch_embed = encoder.patch_embed.proj
        self.pos_embed = _constant(encoder.pos_embed.permute(0, 3, 1, 2).contiguous())
        self.blocks = nn.ModuleList(_FusedBlock(block) for block in encoder.blocks)
        self.neck = nn.Sequential(
            *(layer if isinstance(layer, nn.Conv2d) else _Norm(layer) for layer in encoder.neck)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, 3, S, S] to [B, 256, S/16, S/16]."""
        x = self.patch_embed(images) + self.pos_embed
        delta = None
        for block in self.blocks:
            x, delta = block(x, delta)
        return self.neck(x if delta is None else x + delta)


class _FusedBlock(nn.Module):
    """`Block`, whose last sum is left to the next block, which makes it with its first norm."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        attention: Attention = block.attn
        self.num_heads, self.window = attention.num_heads, attention.window
        self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w
        self.qkv, self.proj = _pointwise(attention.qkv), _pointwise(attention.proj)
        self.norm1, self.norm2 = _Norm(block.norm1), _Norm(block.norm2)
        self.lin1, self.lin2 = _pointwise(block.mlp.lin1), _pointwise(block.mlp.lin2)

    def forward(self, x: Tensor, delta: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map x and what is still to be added to it, [B, C, G, G], to the same one block on."""
        if delta is None:
            normed = self.norm1(x)
        else:
            x, normed = self.norm1.add(x, delta)
        mixed = rel_pos_attention(
            *(self.qkv(normed), self.qkv.bias, self.rel_pos_h, self.rel_pos_w),
            self.num_heads,
            self.window,
        )
        x, normed = self.norm2.add(x, self.proj(mixed))
        return x, self.lin2(gelu(self.lin1(normed)))


class _Norm(nn.Module):
    """Layer norm over channels, alone or with the sum before it."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps)

    def add(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        return add_layer_norm(x, delta, self.weight, self.bias, self.eps)


def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    """Return a linear layer as a 1x1 convolution that shares its weights."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, device="meta")
    conv.weight, conv.bias = _constant(linear.weight[:, :, None, None]), linear.bias
    return conv


def _constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)
