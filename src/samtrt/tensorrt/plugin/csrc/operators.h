// The list of all operators.
#pragma once

#include "operators/add_layer_norm.h"
#include "operators/embed_masks.h"
#include "operators/gelu.h"
#include "operators/image_queries.h"
#include "operators/image_to_tokens.h"
#include "operators/layer_norm.h"
#include "operators/linear_gelu.h"
#include "operators/memory_attention.h"
#include "operators/patches.h"
#include "operators/place_layer_norm.h"
#include "operators/rel_pos_attention.h"
#include "operators/self_attention.h"
#include "operators/square_attention.h"
#include "operators/token_heads.h"
#include "operators/token_keys.h"
#include "operators/token_mlp.h"
#include "operators/tokens_to_image.h"
#include "operators/upscale_masks.h"

namespace samtrt {

template <typename... Operators>
struct List {};

using AllOperators =
    List<RelPosAttention, SquareAttention, LayerNorm, AddLayerNorm, PlaceLayerNorm, Gelu, GeluTanh,
         LinearGelu, Patches, EmbedMasks, TokensToImage, ImageToTokens, UpscaleMasks, SelfAttention,
         ImageQueries, TokenMlp, TokenKeys, TokenHeads, MemoryAttention>;

}  // namespace samtrt
