// The kernels as C functions, for callers without C++ and without TensorRT, such as Python's
// ctypes. Arguments are those of kernels.h; `type` is 0 for float16, 1 for bfloat16; a returned
// number is a cudaError_t, 0 for success.

#include <cstdint>
#include <string>

#include "kernels.h"
#include "operators.h"

#define SAMTRT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

bool is_type(int32_t type) { return type == 0 || type == 1; }

samtrt::Type as_type(int32_t type) {
  return type == 0 ? samtrt::Type::kHalf : samtrt::Type::kBfloat16;
}

}  // namespace

SAMTRT_EXPORT int32_t samtrt_attention_supported(int32_t grid, int32_t head_dim, int32_t window) {
  return samtrt::attention_supported(grid, head_dim, window) ? 1 : 0;
}

SAMTRT_EXPORT int32_t samtrt_rel_pos_attention(int32_t type, void const* qkv, float const* qkv_bias,
                                               float const* rel_pos_h, float const* rel_pos_w,
                                               void* out, int32_t batch, int32_t grid,
                                               int32_t heads, int32_t head_dim, int32_t window,
                                               void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::rel_pos_attention(as_type(type), qkv, qkv_bias, rel_pos_h, rel_pos_w, out, batch,
                                   grid, heads, head_dim, window,
                                   static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int64_t samtrt_memory_attention_workspace(int32_t channels) {
  return static_cast<int64_t>(samtrt::memory_attention_workspace(channels));
}

SAMTRT_EXPORT int32_t samtrt_memory_attention(int32_t type, void const* queries, void const* keys,
                                              void const* values, float const* mask, void* out,
                                              void* workspace, int32_t objects, int32_t masks,
                                              int32_t query_count, int32_t key_count,
                                              int32_t channels, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::memory_attention(as_type(type), queries, keys, values, mask, out, workspace,
                                  objects, masks, query_count, key_count, channels,
                                  static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_square_attention_supported(int32_t grid, int32_t head_dim,
                                                        int32_t window, int32_t stride) {
  return samtrt::square_attention_supported(grid, head_dim, window, stride) ? 1 : 0;
}

SAMTRT_EXPORT int32_t samtrt_square_attention(int32_t type, void const* qkv, float const* qkv_bias,
                                              void* out, int32_t batch, int32_t grid, int32_t heads,
                                              int32_t head_dim, int32_t window, int32_t stride,
                                              void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::square_attention(as_type(type), qkv, qkv_bias, out, batch, grid, heads, head_dim,
                                  window, stride, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_layer_norm_supported(int32_t channels) {
  return samtrt::layer_norm_supported(channels) ? 1 : 0;
}

SAMTRT_EXPORT int32_t samtrt_layer_norm(int32_t type, void const* x, void const* delta,
                                        float const* weight, float const* bias, void* sum, void* y,
                                        int32_t rows, int32_t channels, float epsilon,
                                        void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::layer_norm(as_type(type), x, delta, {}, weight, bias, sum, y, rows, channels,
                            epsilon, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_place_layer_norm(int32_t type, void const* x, float const* places,
                                              float const* weight, float const* bias, void* sum,
                                              void* y, int32_t rows, int32_t places_rows,
                                              int32_t channels, float epsilon, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::layer_norm(as_type(type), x, nullptr, {places, places_rows}, weight, bias, sum, y,
                            rows, channels, epsilon, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_gelu(int32_t type, int32_t by_tanh, void const* x, void* y,
                                  int32_t rows, int32_t channels, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::gelu(as_type(type), by_tanh != 0, x, y, rows, channels,
                      static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_linear_gelu_supported(int32_t inputs, int32_t outputs) {
  return samtrt::linear_gelu_supported(inputs, outputs);
}

SAMTRT_EXPORT int32_t samtrt_linear_gelu(int32_t type, void const* x, void const* weight,
                                         float const* bias, void* y, int32_t rows, int32_t inputs,
                                         int32_t outputs, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::linear_gelu(as_type(type), x, weight, bias, y, rows, inputs, outputs,
                             static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_patches(int32_t type, void const* images, int32_t floats, void* out,
                                     int32_t batch, int32_t side, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::patches(as_type(type), images, floats != 0, out, batch, side,
                         static_cast<cudaStream_t>(stream));
}

// `weights` are the pointers of MaskEmbedding in their order.
SAMTRT_EXPORT int32_t samtrt_embed_masks(int32_t type, void const* image, float const* masks,
                                         float const* has_mask, float const* const* weights,
                                         void* out, int32_t images, int32_t prompts, int32_t side,
                                         float epsilon, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  float const* const* w = weights;
  samtrt::MaskEmbedding const embedding{w[0], w[1], w[2], w[3], w[4], w[5],
                                        w[6], w[7], w[8], w[9], w[10]};
  return samtrt::embed_masks(as_type(type), image, masks, has_mask, embedding, out, images, prompts,
                             side, epsilon, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int64_t samtrt_tokens_to_image_workspace(int32_t prompts, int32_t rows) {
  return static_cast<int64_t>(samtrt::tokens_to_image_workspace(prompts, rows));
}

SAMTRT_EXPORT int32_t samtrt_tokens_to_image(int32_t type, void const* queries, void const* image,
                                             void const* image_pe, void* out, void* workspace,
                                             int32_t prompts, int32_t rows, int32_t cells,
                                             void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::tokens_to_image(as_type(type), queries, image, image_pe, out, workspace, prompts,
                                 rows, cells, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_image_to_tokens(int32_t type, void const* image, void const* image_pe,
                                             void const* keys, void const* offsets,
                                             void const* values, float const* weight,
                                             float const* bias, void* out, int32_t prompts,
                                             int32_t tokens, int32_t cells, float epsilon,
                                             void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::image_to_tokens(as_type(type), image, image_pe, keys, offsets, values, weight,
                                 bias, out, prompts, tokens, cells, epsilon,
                                 static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_upscale_masks(int32_t type, void const* image, void const* hyper,
                                           void const* first, float const* first_bias,
                                           float const* norm_weight, float const* norm_bias,
                                           void const* second, float const* second_bias, float* out,
                                           int32_t prompts, int32_t side, float epsilon,
                                           void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::upscale_masks(as_type(type), image, hyper, first, first_bias, norm_weight,
                               norm_bias, second, second_bias, out, prompts, side, epsilon,
                               static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int64_t samtrt_self_attention_workspace(int32_t prompts, int32_t count) {
  return static_cast<int64_t>(samtrt::self_attention_workspace(prompts, count));
}

SAMTRT_EXPORT int32_t samtrt_self_attention(int32_t type, void const* tokens, void const* token_pe,
                                            void const* qkv, float const* qkv_bias, void const* out,
                                            float const* out_bias, float const* norm_weight,
                                            float const* norm_bias, void* result, void* workspace,
                                            int32_t prompts, int32_t count, int32_t is_first,
                                            float epsilon, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::self_attention(as_type(type), tokens, token_pe, qkv, qkv_bias, out, out_bias,
                                norm_weight, norm_bias, result, workspace, prompts, count, is_first,
                                epsilon, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_image_queries(int32_t type, void const* tokens, void const* token_pe,
                                           void const* query, float const* bias, void const* key,
                                           void* out, int32_t prompts, int32_t count,
                                           int32_t wanted, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::image_queries(as_type(type), tokens, token_pe, query, bias, key, out, prompts,
                               count, wanted, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int64_t samtrt_token_mlp_workspace(int32_t prompts, int32_t count) {
  return static_cast<int64_t>(samtrt::token_mlp_workspace(prompts, count));
}

// `weights` are the pointers of MlpWeights in their order; so they are below.
SAMTRT_EXPORT int32_t samtrt_token_mlp(int32_t type, void const* mixed, void const* tokens,
                                       void const* const* weights, void* result, void* workspace,
                                       int32_t prompts, int32_t count, float epsilon,
                                       void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::token_mlp(as_type(type), mixed, tokens, samtrt::TokenMlp::weights(weights), result,
                           workspace, prompts, count, epsilon, static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int32_t samtrt_token_keys(int32_t type, void const* tokens, void const* token_pe,
                                        void const* const* weights, void* keys, void* offsets,
                                        void* values, int32_t prompts, int32_t count,
                                        void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::token_keys(as_type(type), tokens, token_pe, samtrt::TokenKeys::weights(weights),
                            keys, offsets, values, prompts, count,
                            static_cast<cudaStream_t>(stream));
}

SAMTRT_EXPORT int64_t samtrt_token_heads_workspace(int32_t prompts) {
  return static_cast<int64_t>(samtrt::token_heads_workspace(prompts));
}

SAMTRT_EXPORT int32_t samtrt_token_heads(int32_t type, void const* mixed, void const* tokens,
                                         void const* const* weights, void* hyper, float* iou,
                                         void* workspace, int32_t prompts, int32_t count,
                                         float epsilon, void* stream) {
  if (!is_type(type)) {
    return cudaErrorInvalidValue;
  }
  return samtrt::token_heads(as_type(type), mixed, tokens, samtrt::TokenHeads::weights(weights),
                             hyper, iou, workspace, prompts, count, epsilon,
                             static_cast<cudaStream_t>(stream));
}

namespace {

char letter_of(samtrt::Kind kind) {
  switch (kind) {
    case samtrt::Kind::kGrid:
      return 'g';
    case samtrt::Kind::kRows:
      return 'r';
    case samtrt::Kind::kPixels:
      return 'p';
    case samtrt::Kind::kFloats:
      break;
  }
  return 'f';
}

template <typename Operator>
std::string signature() {
  std::string text = Operator::kName;
  for (int i = 0; i < Operator::kInputs + Operator::kOutputs; ++i) {
    text += i == 0 ? " " : i == Operator::kInputs ? ">" : "";
    text += letter_of(Operator::kKinds[i]);
  }
  for (int i = 0; i < Operator::kFieldCount; ++i)
    text += std::string(" ") + Operator::kFields[i].name;
  return text + "\n";
}

template <typename... Operators>
std::string signatures(samtrt::List<Operators...>) {
  return (signature<Operators>() + ...);
}

}  // namespace

// A line for each operator, such as "SamtrtLayerNorm gff>g epsilon": its name, a letter for each
// input and output (g: half precision with channels last, r: half precision, p: that or float32,
// f: float32), and its attributes.
SAMTRT_EXPORT char const* samtrt_operators() {
  static std::string const text = signatures(samtrt::AllOperators());
  return text.c_str();
}

SAMTRT_EXPORT char const* samtrt_error_string(int32_t error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

#define SAMTRT_TEXT(words) SAMTRT_QUOTED(words)
#define SAMTRT_QUOTED(words) #words

// GPUs that the library holds code for, such as "sm_80+sm_90a"; empty where the compiler was not
// told.
SAMTRT_EXPORT char const* samtrt_architectures() {
#ifdef SAMTRT_ARCHITECTURES
  return SAMTRT_TEXT(SAMTRT_ARCHITECTURES);
#else
  return "";
#endif
}
