// The list of all operators.
#pragma once

#include "operators/add_layer_norm.h"
#include "operators/embed_masks.h"
#include "operators/gelu.h"
#include "operators/image_to_tokens.h"
#include "operators/layer_norm.h"
#include "operators/rel_pos_attention.h"
#include "operators/tokens_to_image.h"
#include "operators/upscale_masks.h"

namespace samtrt {

template <typename... Operators>
struct List {};

using AllOperators = List<RelPosAttention, LayerNorm, AddLayerNorm, Gelu, EmbedMasks, TokensToImage,
                          ImageToTokens, UpscaleMasks>;

}  // namespace samtrt
