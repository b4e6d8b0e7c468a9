// The CUDA kernels of the encoder: what the TensorRT plugins, and anything else, call.
//
// Activations are half precision and channels last, [batch, grid, grid, channels], contiguous;
// weights, biases and tables are float32. All pointers are device memory, aligned to 16 bytes.
// Calls return at once, having queued work on `stream`; no workspace, no state between calls.
#pragma once

#include <cuda_runtime_api.h>

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

// Layer norm over channels, biased variance, computed in float32:
// sum = x + delta; y = (sum - mean) / sqrt(variance + epsilon) * weight + bias.
//
// x, delta, sum, y  [rows, channels]; channels is a multiple of 8
// weight, bias      [channels]
//
// `delta` may be null, for y of x alone; `sum` may be null where nobody needs it. The norm is that
// of the sum before it is rounded to `type`, or after: within one rounding of each other. Returns
// cudaErrorInvalidValue where a size does not fit, else what the launch returned.
cudaError_t layer_norm(Type type, void const* x, void const* delta, float const* weight,
                       float const* bias, void* sum, void* y, int rows, int channels, float epsilon,
                       cudaStream_t stream);

}  // namespace samtrt
