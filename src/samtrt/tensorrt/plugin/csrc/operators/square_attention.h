#pragma once

#include "grid.h"

namespace samtrt {

// (qkv, qkv_bias) -> out; [B, 3C, G, G], [3C] -> [B, C, G / stride, G / stride]
struct SquareAttention : Operator {
  static constexpr char const* kName = "SamtrtSquareAttention";
  static constexpr int kInputs = 2, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kGrid, Kind::kFloats, Kind::kGrid};

  struct Attributes {
    int32_t heads;
    int32_t window;  // side of the squares in tokens, 0 for one of the whole grid
    int32_t stride;  // 2 where queries are pooled 2 x 2, else 1
  };

  static constexpr int kFieldCount = 3;
  static constexpr Field kFields[]{{"num_heads", false}, {"window", false}, {"stride", false}};

  static bool valid(Attributes const& a) {
    return a.heads > 0 && a.window >= 0 && (a.stride == 1 || a.stride == 2);
  }

  static Shape output(Attributes const& a, int) {
    return {4, {size_of(0, 0), size_of(0, 1, 3), size_of(0, 2, a.stride), size_of(0, 3, a.stride)}};
  }

  static bool supported(Attributes const& a, Tensor const& qkv) {
    int const parts = 3 * a.heads;
    return is_square(qkv) && qkv[1] % parts == 0 &&
           square_attention_supported(qkv[2], qkv[1] / parts, a.window, a.stride);
  }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return square_attention(in->type, inputs[0], floats(inputs[1]), outputs[0], in[0][0], in[0][2],
                            a.heads, in[0][1] / (3 * a.heads), a.window, a.stride, stream);
  }
};

}  // namespace samtrt
