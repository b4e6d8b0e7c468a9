#pragma once

#include "grid.h"

namespace samtrt {

// (qkv, qkv_bias, rel_pos_h, rel_pos_w) -> out;
// [B, 3C, G, G], [3C], [2S - 1, D] twice -> [B, C, G, G]
struct RelPosAttention : Operator {
  static constexpr char const* kName = "SamtrtRelPosAttention";
  static constexpr int kInputs = 4, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kGrid, Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kGrid};

  struct Attributes {
    int32_t heads;
    int32_t window;  // side of the windows in tokens, 0 for global attention
  };

  static constexpr int kFieldCount = 2;
  static constexpr Field kFields[]{{"num_heads", false}, {"window", false}};

  static bool valid(Attributes const& a) { return a.heads > 0 && a.window >= 0; }

  static Shape output(Attributes const&, int) {
    return {4, {size_of(0, 0), size_of(0, 1, 3), size_of(0, 2), size_of(0, 3)}};
  }

  static bool supported(Attributes const& a, Tensor const& qkv) {
    int const parts = 3 * a.heads;
    return is_square(qkv) && qkv[1] % parts == 0 &&
           attention_supported(qkv[2], qkv[1] / parts, a.window);
  }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return rel_pos_attention(in->type, inputs[0], floats(inputs[1]), floats(inputs[2]),
                             floats(inputs[3]), outputs[0], in[0][0], in[0][2], a.heads,
                             in[0][1] / (3 * a.heads), a.window, stream);
  }
};

}  // namespace samtrt
