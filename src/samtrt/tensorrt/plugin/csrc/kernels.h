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

// Tells whether square_attention has kernels of these sizes: heads of 56, 72 or 96 channels, and an
// even grid and window where queries are pooled.
bool square_attention_supported(int grid, int head_dim, int window, int stride);

// Multi-head attention within the squares of a grid of tokens, softmax(head_dim^-1/2 q.k) v, whose
// queries may be the largest of 2 x 2 (`MultiScaleAttention` of SAM 2's
// modeling/backbones/hieradet.py).
//
// qkv       [batch, grid, grid, 3 * heads * head_dim], as of rel_pos_attention
// qkv_bias  [3 * heads * head_dim]: key and value of the tokens that pad squares at the right and
//           bottom edge, which take part
// window    the squares' side in tokens, 0 for one of the whole grid
// stride    2 where queries are pooled, else 1
// out       [batch, grid / stride, grid / stride, heads * head_dim]
//
// Returns cudaErrorInvalidValue where square_attention_supported is false or a size is not
// positive, else what the launch returned.
cudaError_t square_attention(Type type, void const* qkv, float const* qkv_bias, void* out,
                             int batch, int grid, int heads, int head_dim, int window, int stride,
                             cudaStream_t stream);

// Bytes that memory_attention needs.
size_t memory_attention_workspace(int channels);

// Attention of one head of 256 channels, softmax(q.k / 16 + mask) v (`RoPEAttention` of SAM 2's
// modeling/sam/transformer.py, between its projections, queries and keys turned). For Hopper alone:
// cudaErrorNotSupported elsewhere.
//
// queries  [objects, query_count, 256]
// keys     [objects, key_count, 256]
// values   [objects, key_count, channels]; channels is 64 or 256
// mask     [masks, key_count], finite; masks is 1 or objects
// out      [objects, query_count, channels]
cudaError_t memory_attention(Type type, void const* queries, void const* keys, void const* values,
                             float const* mask, void* out, void* workspace, int objects, int masks,
                             int query_count, int key_count, int channels, cudaStream_t stream);

// Tells whether layer_norm has kernels for rows of so many channels.
bool layer_norm_supported(int channels);

// What is added to tokens by their place in the image: [rows, channels] for the tokens of one.
struct Places {
  float const* added = nullptr;
  int rows = 1;
};

// Layer norm over channels, biased variance, computed in float32:
// sum = x + delta + places; y = (sum - mean) / sqrt(variance + epsilon) * weight + bias.
//
// x, delta, sum, y  [rows, channels]; channels is a multiple of 8, up to 1280
// weight, bias      [channels]
//
// `delta` and what `places` adds may be null, for y of x alone; `sum` may be null where nobody
// needs it. The norm is that of the sum before it is rounded to `type`, or after: within one
// rounding of each other. Returns cudaErrorInvalidValue where a size does not fit, else what the
// launch returned.
cudaError_t layer_norm(Type type, void const* x, void const* delta, Places const& places,
                       float const* weight, float const* bias, void* sum, void* y, int rows,
                       int channels, float epsilon, cudaStream_t stream);

// y = x / 2 (1 + erf(x / sqrt 2)), computed in float32; or `by_tanh`
// y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
//
// x, y  [rows, channels]; channels is a multiple of 8
//
// Returns cudaErrorInvalidValue where a size does not fit, else what the launch returned.
cudaError_t gelu(Type type, bool by_tanh, void const* x, void* y, int rows, int channels,
                 cudaStream_t stream);

// Squares of 16 x 16 pixels become tokens: channel = (color * 16 + row) * 16 + column.
//
// images  [batch, 3, side, side], channels first; side is a multiple of 16; in `type`, or `floats`
// out     [batch, side / 16, side / 16, 768]
//
// Returns cudaErrorInvalidValue where a size does not fit, else what the launch returned.
cudaError_t patches(Type type, void const* images, bool floats, void* out, int batch, int side,
                    cudaStream_t stream);

// y = GELU of x weight' + bias, as `gelu`, of sums in float32.
//
// x       [rows, inputs]; inputs is a multiple of 64
// weight  [outputs, inputs] in `type`; outputs is a multiple of 128
// bias    [outputs]
// y       [rows, outputs]
//
// Returns cudaErrorInvalidValue where a size does not fit, else what the launch returned.
cudaError_t linear_gelu(Type type, void const* x, void const* weight, float const* bias, void* y,
                        int rows, int inputs, int outputs, cudaStream_t stream);
bool linear_gelu_supported(int inputs, int outputs);

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
// image     [images, side * side, 256]
// masks     float32 [prompts, 4 * side, 4 * side], low-res logits
// has_mask  float32 [prompts], positive where a prompt has a mask
// out       [prompts, side * side, 256]
// images    1 for one that all prompts have, else prompts
// side      such that side * side is a multiple of 32
cudaError_t embed_masks(Type type, void const* image, float const* masks, float const* has_mask,
                        MaskEmbedding const& weights, void* out, int images, int prompts, int side,
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

// The mask decoder's work on tokens: `count` of them for each prompt, kMostTokens (32) at most for
// self_attention, as rows of 256 channels; the first five are the IoU's and the masks'. Weights are
// in `type`, a row for each output, biases and norms float32. Workspaces are as many bytes as the
// functions beside say, enough for fewer prompts and tokens too. All return cudaErrorInvalidValue
// where a size does not fit, else what a launch returned.

// result = layer norm of tokens + attention among each prompt's tokens; in the first layer of
// attention alone, without positions.
//
// tokens, token_pe, result  [prompts, count, 256]
// qkv           [768, 256], of queries, keys and values; those of queries are scaled
// qkv_bias      [768]
// out           [256, 256]
// out_bias, norm_weight, norm_bias  [256]
cudaError_t self_attention(Type type, void const* tokens, void const* token_pe, void const* qkv,
                           float const* qkv_bias, void const* out, float const* out_bias,
                           float const* norm_weight, float const* norm_bias, void* result,
                           void* workspace, int prompts, int count, int is_first, float epsilon,
                           cudaStream_t stream);
size_t self_attention_workspace(int prompts, int count);

// The queries of tokens_to_image, of the first `wanted` tokens.
//
// tokens, token_pe  [prompts, count, 256]
// query   [128, 256], scaled
// bias    [128]
// key     [8, 256, 16]: of each head, the projection of the image's side, transposed
// out     [prompts, 8 * wanted, 256]
cudaError_t image_queries(Type type, void const* tokens, void const* token_pe, void const* query,
                          float const* bias, void const* key, void* out, int prompts, int count,
                          int wanted, cudaStream_t stream);

// The weights of token_mlp.
struct MlpWeights {
  void const* value;          // [128, 256], of attention to the image
  float const* value_bias;    // [128]
  void const* out;            // [256, 128]
  float const* out_bias;      // [256]
  float const* norm2_weight;  // [256]
  float const* norm2_bias;    // [256]
  void const* lin1;           // [2048, 256]
  float const* lin1_bias;     // [2048]
  void const* lin2;           // [256, 2048]
  float const* lin2_bias;     // [256]
  float const* norm3_weight;  // [256]
  float const* norm3_bias;    // [256]
};

// x = layer norm of tokens + output layer of the values of mixed; result = layer norm of x + MLP of
// x, with ReLU between its layers.
//
// mixed           [prompts, 8 * count, 256], what tokens_to_image gives
// tokens, result  [prompts, count, 256]
cudaError_t token_mlp(Type type, void const* mixed, void const* tokens, MlpWeights const& weights,
                      void* result, void* workspace, int prompts, int count, float epsilon,
                      cudaStream_t stream);
size_t token_mlp_workspace(int prompts, int count);

// The weights of token_keys.
struct KeyProjections {
  void const* key;          // [128, 256], scaled
  float const* key_bias;    // [128]
  void const* query;        // [8, 256, 16]: of each head, that of the image's side, transposed
  float const* query_bias;  // [128]
  void const* value;        // [128, 256]
  float const* value_bias;  // [128]
  void const* out;          // [8, 256, 16]: of each head, its columns of the output layer
  float const* out_bias;    // [256]
};

// The keys, offsets and values of image_to_tokens.
//
// tokens, token_pe  [prompts, count, 256]
// keys, values      [prompts, 8 * count, 256]
// offsets           [prompts, 8 * count]
cudaError_t token_keys(Type type, void const* tokens, void const* token_pe,
                       KeyProjections const& weights, void* keys, void* offsets, void* values,
                       int prompts, int count, cudaStream_t stream);

// The weights of token_heads; the five tokens' MLPs lie one after the other.
struct HeadWeights {
  void const* value;         // [128, 256], of attention to the image
  float const* value_bias;   // [128]
  void const* out;           // [256, 128]
  float const* out_bias;     // [256]
  float const* norm_weight;  // [256]
  float const* norm_bias;    // [256]
  void const* first;         // [5, 256, 256]
  float const* first_bias;   // [5, 256]
  void const* second;        // [5, 256, 256]
  float const* second_bias;  // [5, 256]
  void const* last;          // [5, 32, 256]; of the first, 4 rows are used
  float const* last_bias;    // [5, 32]
};

// x = layer norm of the first five tokens + output layer of the values of mixed; then the MLP of
// each, with ReLU between its layers.
//
// mixed   [prompts, 8 * 5, 256], what tokens_to_image gives
// tokens  [prompts, count, 256]
// hyper   [prompts, 4, 32], of the 4 masks
// iou     float32 [prompts, 4]
cudaError_t token_heads(Type type, void const* mixed, void const* tokens,
                        HeadWeights const& weights, void* hyper, float* iou, void* workspace,
                        int prompts, int count, float epsilon, cudaStream_t stream);
size_t token_heads_workspace(int prompts);

}  // namespace samtrt
