// The encoder's kernels as TensorRT plugins: SamtrtRelPosAttention, SamtrtLayerNorm,
// SamtrtAddLayerNorm and SamtrtGelu.
//
// The graph is NCHW; activations are asked for as kHWC8, which for a multiple of 8 channels is
// [batch, grid, grid, channels] in memory. Weights, biases and tables come as float32.
#pragma once

#include "plugin_base.h"

namespace samtrt_plugin {

inline bool is_square(PluginTensorDesc const& desc) noexcept {
  return desc.dims.nbDims == 4 && size_of(desc, 2) == size_of(desc, 3);
}

// What is worked on a token at a time: a square of tokens, each of whole 16-byte vectors.
inline bool is_vectors(PluginTensorDesc const& desc) noexcept {
  return is_square(desc) && size_of(desc, 1) % 8 == 0;
}

inline int rows_of(PluginTensorDesc const& desc) noexcept {
  return size_of(desc, 0) * size_of(desc, 2) * size_of(desc, 3);
}

// (qkv, qkv_bias, rel_pos_h, rel_pos_w) -> out; [B, 3C, G, G], [3C], [2S-1, D] twice -> [B, C, G,
// G]
struct RelPosAttention : Plain {
  static constexpr char const* kName = "SamtrtRelPosAttention";
  static constexpr int32_t kInputs = 4;
  static constexpr int32_t kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kGrid, Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kGrid};

  struct Attributes {
    int32_t heads;
    int32_t window;  // side of the windows in tokens, 0 for global attention
  };

  static constexpr int32_t kFieldCount = 2;
  static inline PluginField const kFields[kFieldCount]{
      {"num_heads", nullptr, PluginFieldType::kINT32, 1},
      {"window", nullptr, PluginFieldType::kINT32, 1}};

  static void set(Attributes& attributes, PluginField const& field) noexcept {
    read(field, "num_heads", PluginFieldType::kINT32, attributes.heads);
    read(field, "window", PluginFieldType::kINT32, attributes.window);
  }

  static bool valid(Attributes const& attributes) noexcept {
    return attributes.heads > 0 && attributes.window >= 0;
  }

  static DimsExprs output(Attributes const&, DimsExprs const* inputs,
                          nvinfer1::IExprBuilder& builder) noexcept {
    DimsExprs out(inputs[0]);
    out.d[1] = builder.operation(nvinfer1::DimensionOperation::kFLOOR_DIV, *out.d[1],
                                 *builder.constant(3));
    return out;
  }

  static bool supported(Attributes const& attributes, PluginTensorDesc const& qkv) noexcept {
    int const parts = 3 * attributes.heads;
    return is_square(qkv) && size_of(qkv, 1) % parts == 0 &&
           samtrt::attention_supported(size_of(qkv, 2), size_of(qkv, 1) / parts, attributes.window);
  }

  static cudaError_t run(Attributes const& attributes, PluginTensorDesc const* in,
                         void const* const* inputs, void* const* outputs, void*,
                         cudaStream_t stream) noexcept {
    return samtrt::rel_pos_attention(
        half_type(in->type), inputs[0], static_cast<float const*>(inputs[1]),
        static_cast<float const*>(inputs[2]), static_cast<float const*>(inputs[3]), outputs[0],
        size_of(*in, 0), size_of(*in, 2), attributes.heads,
        size_of(*in, 1) / (3 * attributes.heads), attributes.window, stream);
  }
};

// (x, weight, bias) -> y, or with kAdd (x, delta, weight, bias) -> (sum, y); [B, C, G, G] and [C]
template <bool kAdd>
struct LayerNorm : Plain {
  static constexpr char const* kName = kAdd ? "SamtrtAddLayerNorm" : "SamtrtLayerNorm";
  static constexpr int32_t kInputs = kAdd ? 4 : 3;
  static constexpr int32_t kOutputs = kAdd ? 2 : 1;
  // Without the addition the second grid input and output are not there.
  static constexpr Kind kSecond = kAdd ? Kind::kGrid : Kind::kFloats;
  static constexpr Kind kKinds[]{Kind::kGrid,   kSecond,
                                 Kind::kFloats, kAdd ? Kind::kFloats : Kind::kGrid,
                                 Kind::kGrid,   Kind::kGrid};

  struct Attributes {
    float epsilon;
  };

  static constexpr int32_t kFieldCount = 1;
  static inline PluginField const kFields[kFieldCount]{
      {"epsilon", nullptr, PluginFieldType::kFLOAT32, 1}};

  static void set(Attributes& attributes, PluginField const& field) noexcept {
    read(field, "epsilon", PluginFieldType::kFLOAT32, attributes.epsilon);
  }

  static bool valid(Attributes const& attributes) noexcept { return attributes.epsilon > 0.0F; }

  static bool supported(Attributes const&, PluginTensorDesc const& x) noexcept {
    return is_square(x) && samtrt::layer_norm_supported(size_of(x, 1));
  }

  static cudaError_t run(Attributes const& attributes, PluginTensorDesc const* in,
                         void const* const* inputs, void* const* outputs, void*,
                         cudaStream_t stream) noexcept {
    return samtrt::layer_norm(half_type(in->type), inputs[0], kAdd ? inputs[1] : nullptr,
                              static_cast<float const*>(inputs[kInputs - 2]),
                              static_cast<float const*>(inputs[kInputs - 1]),
                              kAdd ? outputs[0] : nullptr, outputs[kOutputs - 1], rows_of(*in),
                              size_of(*in, 1), attributes.epsilon, stream);
  }
};

// x -> y; both [B, C, G, G]
struct Gelu : WithoutAttributes {
  static constexpr char const* kName = "SamtrtGelu";
  static constexpr int32_t kInputs = 1;
  static constexpr int32_t kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kGrid, Kind::kGrid};

  static bool supported(Attributes const&, PluginTensorDesc const& x) noexcept {
    return is_vectors(x);
  }

  static cudaError_t run(Attributes const&, PluginTensorDesc const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) noexcept {
    return samtrt::gelu(half_type(in->type), inputs[0], outputs[0], rows_of(*in), size_of(*in, 1),
                        stream);
  }
};

}  // namespace samtrt_plugin
