#pragma once

#include "grid.h"

namespace samtrt {

// What both norms have in common.
struct Norm : Operator {
  struct Attributes {
    float epsilon;
  };

  static constexpr int kFieldCount = 1;
  static constexpr Field kFields[]{{"epsilon", true}};

  static bool valid(Attributes const& a) { return a.epsilon > 0.0F; }

  static bool supported(Attributes const&, Tensor const& x) {
    return is_square(x) && layer_norm_supported(x[1]);
  }
};

// (x, weight, bias) -> y; [B, C, G, G], [C] twice
struct LayerNorm : Norm {
  static constexpr char const* kName = "SamtrtLayerNorm";
  static constexpr int kInputs = 3, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kGrid, Kind::kFloats, Kind::kFloats, Kind::kGrid};

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return layer_norm(in->type, inputs[0], nullptr, {}, floats(inputs[1]), floats(inputs[2]),
                      nullptr, outputs[0], tokens_of(*in), in[0][1], a.epsilon, stream);
  }
};

}  // namespace samtrt
