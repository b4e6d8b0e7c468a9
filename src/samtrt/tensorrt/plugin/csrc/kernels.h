// The CUDA kernels of both stages: what the TensorRT plugins, and anything else, call.
//
// Activations are half precision and channels last, [batch, grid, grid, channels], contiguous;
// weights, biases and tables are float32 where nothing else is said. All pointers are device
// memory, aligned to 16 bytes. Calls return at once, having queued work on `stream`; no state
// between calls.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace samtrt {

// What activations are stored in. Sums are in float32 for both.
enum class Type { kHalf, kBfloat16 };

// Tells whether rel_pos_attention has kernels of these sizes, which are fixed when it is compiled.
// `window` is the side of the windows in tokens, 0 for attention over the whole grid.
bool attention_supported(int grid, int head_dim, int window);

// Multi-head attention with decomposed relative positions over one square of tokens, or over
// windows of it: softmax(scale * q.k + q.rel_pos_h[dy] + q.rel_pos_w[dx]) v, scale = head_dim^-1/2
// (`add_decomposed_rel_pos` of segment-anything's modeling/image_encoder.py, after MViTv2).
//
// qkv        [batch, grid, grid, 3 * heads * head_dim], bias added;
//            channel = part * heads * head_dim + head * head_dim + d, part 0, 1, 2 = q, k, v
// qkv_bias   [3 * heads * head_dim]: key and value of the tokens that pad windows at the right and
//            bottom edge, which take part; padded queries have no output
// rel_pos_h  [2 * side - 1, head_dim], side = window or grid; row = query's row - key's row
//            + side - 1
// rel_pos_w  the same for columns
// out        [batch, grid, grid, heads * head_dim]
//
// Returns cudaErrorInvalidValue where attention_supported is false or a size is not positive, else
// what the launch returned.
cudaError_t rel_pos_attention(Type type, void const* qkv, float const* qkv_bias,
                              float const* rel_pos_h, float const* rel_pos_w, void* out, int batch,
                              int grid, int heads, int head_dim, int window, cudaStream_t stream);

// Tells whether layer_norm has kernels for rows of so many channels.
bool layer_norm_supported(int channels);

// Layer norm over channels, biased variance, computed in float32:
// sum = x + delta; y = (sum - mean) / sqrt(variance + epsilon) * weight + bias.
//
// x, delta, sum, y  [rows, channels]; channels is a multiple of 8, up to 1280
// weight, bias      [channels]
//
// `delta` may be null, for y of x alone; `sum` may be null where nobody needs it. The norm is that
// of the sum before it is rounded to `type`, or after: within one rounding of each other. Returns
// cudaErrorInvalidValue where a size does not fit, else what the launch returned.
cudaError_t layer_norm(Type type, void const* x, void const* delta, float const* weight,
                       float const* bias, void* sum, void* y, int rows, int channels, float epsilon,
                       cudaStream_t stream);

// y = x / 2 (1 + erf(x / sqrt 2)), computed in float32.
//
// x, y  [rows, channels]; channels is a multiple of 8
//
// Returns cudaErrorInvalidValue where a size does not fit, else what the launch returned.
cudaError_t gelu(Type type, void const* x, void* y, int rows, int channels, cudaStream_t stream);

// The mask decoder's four kernels: attention between P prompts' tokens and the image, and what
// comes before and after it, with the projections of the image's side applied to the tokens' side
// (models/mask_decoder.py). The image is [prompts, cells, 256], a row for each cell of the
// embedding; image_pe [cells, 256] is its positional encoding. There are 8 heads. All return
// cudaErrorInvalidValue where a size does not fit, else what the launch returned.

// The weights that masks are embedded with, all float32.
struct MaskEmbedding {
  float const* first;               // [4, 4]; the second 4 are (dy, dx) of a 2 x 2 square of pixels
  float const* first_bias;          // [4]
  float const* first_norm_weight;   // [4]
  float const* first_norm_bias;     // [4]
  float const* second;              // [16, 16]; the second 16 are (dy, dx) of 2 x 2, then channels
  float const* second_bias;         // [16]
  float const* second_norm_weight;  // [16]
  float const* second_norm_bias;    // [16]
  float const* third;               // [256, 16]
  float const* third_bias;          // [256]
  float const* no_mask;             // [256]; instead of all of them for a prompt without a mask
};

// out = image + embedding of each prompt's mask.
//
// image     [side * side, 256], of one image
// masks     float32 [prompts, 4 * side, 4 * side], low-res logits
// has_mask  float32 [prompts], positive where a prompt has a mask
// out       [prompts, side * side, 256]
// side      such that side * side is a multiple of 32
cudaError_t embed_masks(Type type, void const* image, float const* masks, float const* has_mask,
                        MaskEmbedding const& weights, void* out, int prompts, int side,
                        float epsilon, cudaStream_t stream);

// out = softmax(queries . (image + image_pe)) image, of each query by itself.
//
// queries, out  [prompts, rows, 256]; a row for each head and token
// workspace     tokens_to_image_workspace(prompts, rows) bytes, enough for fewer of either too
// cells         a multiple of 32
cudaError_t tokens_to_image(Type type, void const* queries, void const* image, void const* image_pe,
                            void* out, void* workspace, int prompts, int rows, int cells,
                            cudaStream_t stream);
size_t tokens_to_image_workspace(int prompts, int rows);

// out = layer norm of image + sum over heads of softmax((image + image_pe) . keys + offsets)
// values, softmax over each head's tokens.
//
// keys, values  [prompts, 8 * tokens, 256]; row = head * tokens + token
// offsets       [prompts, 8 * tokens]
// weight, bias  [256], of the norm
// out           as image
// tokens        at most 32
// cells         a multiple of 64
cudaError_t image_to_tokens(Type type, void const* image, void const* image_pe, void const* keys,
                            void const* offsets, void const* values, float const* weight,
                            float const* bias, void* out, int prompts, int tokens, int cells,
                            float epsilon, cudaStream_t stream);

// Low-res logits: two transposed convolutions of 2 x 2 and stride 2, the first followed by a layer
// norm, both by GELU, then the product with each mask's weights.
//
// image                   [prompts, side * side, 256]
// hyper                   [prompts, 4, 32], of the 4 masks
// first                   [4 * 64, 256] in `type`; row = (2 dy + dx) * 64 + channel, with dy, dx
//                         the place among the 2 x 2 that a cell becomes
// first_bias, norm_weight, norm_bias  [64]
// second                  [4 * 32, 64] in `type`, likewise
// second_bias             [32]
// out                     float32 [prompts, 4, 4 * side, 4 * side]
// side                    a multiple of 4
cudaError_t upscale_masks(Type type, void const* image, void const* hyper, void const* first,
                          float const* first_bias, float const* norm_weight, float const* norm_bias,
                          void const* second, float const* second_bias, float* out, int prompts,
                          int side, float epsilon, cudaStream_t stream);

}  // namespace samtrt
