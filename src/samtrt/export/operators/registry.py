"""The list of all operators."""

from __future__ import annotations

from samtrt.export.operators.add_layer_norm import ADD_LAYER_NORM
from samtrt.export.operators.embed_masks import EMBED_MASKS
from samtrt.export.operators.gelu import GELU
from samtrt.export.operators.gelu_tanh import GELU_TANH
from samtrt.export.operators.image_queries import IMAGE_QUERIES
from samtrt.export.operators.image_to_tokens import IMAGE_TO_TOKENS
from samtrt.export.operators.layer_norm import LAYER_NORM
from samtrt.export.operators.linear_gelu import LINEAR_GELU
from samtrt.export.operators.memory_attention import MEMORY_ATTENTION
from samtrt.export.operators.operator import Operator
from samtrt.export.operators.patches import PATCHES
from samtrt.export.operators.place_layer_norm import PLACE_LAYER_NORM
from samtrt.export.operators.rel_pos_attention import REL_POS_ATTENTION
from samtrt.export.operators.self_attention import SELF_ATTENTION
from samtrt.export.operators.square_attention import SQUARE_ATTENTION
from samtrt.export.operators.token_heads import TOKEN_HEADS
from samtrt.export.operators.token_keys import TOKEN_KEYS
from samtrt.export.operators.token_mlp import TOKEN_MLP
from samtrt.export.operators.tokens_to_image import TOKENS_TO_IMAGE
from samtrt.export.operators.upscale_masks import UPSCALE_MASKS

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        REL_POS_ATTENTION,
        SQUARE_ATTENTION,
        LAYER_NORM,
        ADD_LAYER_NORM,
        PLACE_LAYER_NORM,
        GELU,
        GELU_TANH,
        LINEAR_GELU,
        PATCHES,
        EMBED_MASKS,
        TOKENS_TO_IMAGE,
        IMAGE_TO_TOKENS,
        UPSCALE_MASKS,
        SELF_ATTENTION,
        IMAGE_QUERIES,
        TOKEN_MLP,
        TOKEN_KEYS,
        TOKEN_HEADS,
        MEMORY_ATTENTION,
    )
}
"""By name."""
