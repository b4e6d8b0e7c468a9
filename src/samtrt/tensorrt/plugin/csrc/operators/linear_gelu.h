#pragma once

#include "grid.h"

namespace samtrt {

// (x, weight, bias) -> y; [B, C, G, G], [D, C], [D] -> [B, D, G, G]
struct LinearGelu : Operator {
  static constexpr char const* kName = "SamtrtLinearGelu";
  static constexpr int kInputs = 3, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kGrid, Kind::kRows, Kind::kFloats, Kind::kGrid};

  static Shape output(Attributes const&, int) {
    return {4, {size_of(0, 0), size_of(1, 0), size_of(0, 2), size_of(0, 3)}};
  }

  static bool supported(Attributes const&, Tensor const& x) {
    return is_square(x) && linear_gelu_supported(x[1], 128);  // the weight is not known yet
  }

  static cudaError_t run(Attributes const&, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return linear_gelu(in->type, inputs[0], inputs[1], floats(inputs[2]), outputs[0],
                       tokens_of(*in), in[0][1], in[1][0], stream);
  }
};

}  // namespace samtrt
