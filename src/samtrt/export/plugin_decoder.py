"""The mask decoder's tokens in operators of the plugin, as `PluginKernels` has its image.

TensorRT's own compiler makes regions of the token work that take longer than all passes over the
image. Here every layer is a few operators, each of them one to three kernels.
"""

from __future__ import annotations

from typing import Any

from samtrt.errors import MissingExtraError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("Exporting", "export", error.name or "torch") from None

from samtrt.export.operators.image_queries import IMAGE_QUERIES
from samtrt.export.operators.self_attention import SELF_ATTENTION
from samtrt.export.operators.token_heads import TOKEN_HEADS
from samtrt.export.operators.token_keys import TOKEN_KEYS
from samtrt.export.operators.token_mlp import TOKEN_MLP
from samtrt.models.image_kernels import Image, ImageKernels
from samtrt.models.mask_decoder import CrossAttention, MaskDecoder, TwoWayTransformer


class PluginDecoder(nn.Module):
    """`MaskDecoder` in the plugin's operators: the same weights, inputs, outputs and numbers."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.iou_token = decoder.iou_token

    def forward(
        self, kernels: ImageKernels, image: Tensor, image_pe: Tensor, sparse: Tensor, side: int
    ) -> tuple[Tensor, Tensor]:
        """Do what `MaskDecoder.forward` does."""
        decoder, fixed = self.decoder, self.decoder.fixed_tokens()
        tokens = torch.cat([fixed.unsqueeze(0).expand(sparse.shape[0], -1, -1), sparse], dim=1)
        tokens, mixed, image = _transform(
            decoder.transformer, kernels, image, image_pe, tokens, len(fixed)
        )
        hyper, scores = _read_off(decoder, tokens, mixed)
        return kernels.upscale(image, hyper, decoder.output_upscaling, side), scores


class PluginTransformer(nn.Module):
    """`TwoWayTransformer` in the plugin's operators, for decoders with further tokens.

    What is made of the fixed tokens after it stays in standard operators: their number is always
    the same.
    """

    def __init__(self, transformer: TwoWayTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self, kernels: ImageKernels, image: Tensor, pe: Tensor, tokens: Tensor, wanted: int
    ) -> tuple[Tensor, Tensor]:
        """Do what `TwoWayTransformer.forward` does."""
        transformer = self.transformer
        tokens, mixed, image = _transform(transformer, kernels, image, pe, tokens, wanted)
        final = transformer.final_attn_token_to_image
        heads = mixed.reshape(mixed.shape[0], final.num_heads, wanted, mixed.shape[2])
        return transformer.norm_final_attn(tokens[:, :wanted] + final.of_mixed(heads)), image


def _transform(
    transformer: TwoWayTransformer,
    kernels: ImageKernels,
    image: Tensor,
    image_pe: Tensor,
    tokens: Tensor,
    wanted: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Let tokens and image attend to each other, arguments as of `TwoWayTransformer.forward`.

    Returns:
        The tokens [P, T, C]; what each head of the first `wanted` of them got of the image at last,
        [P, heads * wanted, C]; and the image.
    """
    token_pe = tokens
    layers: Any = transformer.layers
    for i, layer in enumerate(layers):
        tokens = _attend_to_selves(layer, tokens, token_pe, is_first=i == 0)
        to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        placed = Image(image, image_pe, image)  # the operators add positions themselves
        queries = IMAGE_QUERIES(tokens, token_pe, *_query_weights(to_image), 0)
        mixed = kernels.tokens_to_image(queries, placed)
        tokens = _update(layer, tokens, mixed)
        weights = _key_weights(to_tokens)
        keys, offsets, values = TOKEN_KEYS(tokens, token_pe, *weights)
        image = kernels.image_to_tokens(placed, keys, offsets, values, layer.norm4)
    final = transformer.final_attn_token_to_image
    queries = IMAGE_QUERIES(tokens, token_pe, *_query_weights(final), wanted)
    return tokens, kernels.tokens_to_image(queries, Image(image, image_pe, image)), image


def _attend_to_selves(layer: Any, tokens: Tensor, token_pe: Tensor, is_first: bool) -> Tensor:
    attention, norm = layer.self_attn, layer.norm1
    q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
    qkv = torch.cat([q.weight * attention.scale, k.weight, v.weight])
    qkv_bias = torch.cat([q.bias * attention.scale, k.bias, v.bias])
    out = attention.out_proj.weight, attention.out_proj.bias
    result: Tensor = SELF_ATTENTION(
        *(tokens, token_pe, qkv, qkv_bias, *out, norm.weight, norm.bias, int(is_first), norm.eps)
    )
    return result


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """Turn a projection's weight [inner, C] to [heads, C, inner / heads]."""
    return weight.reshape(heads, -1, weight.shape[1]).transpose(1, 2).contiguous()


def _query_weights(attention: CrossAttention) -> tuple[Tensor, Tensor, Tensor]:
    # The bias of k_proj adds the same to all of a query's scores, which softmax ignores.
    return (
        attention.q_proj.weight * attention.scale,
        attention.q_proj.bias * attention.scale,
        _by_head(attention.k_proj.weight, attention.num_heads),
    )


def _key_weights(attention: CrossAttention) -> tuple[Tensor, ...]:
    return (
        attention.k_proj.weight * attention.scale,
        attention.k_proj.bias * attention.scale,
        _by_head(attention.q_proj.weight, attention.num_heads),
        attention.q_proj.bias,
        attention.v_proj.weight,
        attention.v_proj.bias,
        _by_head(attention.out_proj.weight.t(), attention.num_heads),
        attention.out_proj.bias,
    )


def _value_weights(attention: CrossAttention) -> tuple[Tensor, ...]:
    value, out = attention.v_proj, attention.out_proj
    return value.weight, value.bias, out.weight, out.bias


def _update(layer: Any, tokens: Tensor, mixed: Tensor) -> Tensor:
    attention, mlp = layer.cross_attn_token_to_image, layer.mlp
    result: Tensor = TOKEN_MLP(
        *(tokens, mixed, *_value_weights(attention), layer.norm2.weight, layer.norm2.bias),
        *(mlp.lin1.weight, mlp.lin1.bias, mlp.lin2.weight, mlp.lin2.bias),
        *(layer.norm3.weight, layer.norm3.bias, layer.norm3.eps),
    )
    return result


def _read_off(decoder: MaskDecoder, tokens: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
    norm = decoder.transformer.norm_final_attn
    heads: Any = [decoder.iou_prediction_head, *decoder.output_hypernetworks_mlps]
    layers = []
    for number in range(3):
        linears = [head.layers[number] for head in heads]
        rows = max(linear.out_features for linear in linears)
        for name in ("weight", "bias"):
            tensors = [getattr(linear, name) for linear in linears]
            layers.append(torch.stack([_padded(tensor, rows) for tensor in tensors]))
    weights, scores = TOKEN_HEADS(
        *(tokens, mixed, *_value_weights(decoder.transformer.final_attn_token_to_image)),
        *(norm.weight, norm.bias, *layers, norm.eps),
    )
    return weights, scores


def _padded(tensor: Tensor, rows: int) -> Tensor:
    extra = tensor.new_zeros(rows - tensor.shape[0], *tensor.shape[1:])
    return torch.cat([tensor, extra]) if len(extra) else tensor
