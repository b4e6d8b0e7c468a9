#pragma once

#include "layer_norm.h"

namespace samtrt {

// (x, places, weight, bias) -> (sum, y); [B, C, G, G], [G, G, C], [C] twice
struct PlaceLayerNorm : Norm {
  static constexpr char const* kName = "SamtrtPlaceLayerNorm";
  static constexpr int kInputs = 4, kOutputs = 2;
  static constexpr Kind kKinds[]{Kind::kGrid,   Kind::kFloats, Kind::kFloats,
                                 Kind::kFloats, Kind::kGrid,   Kind::kGrid};

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    Places const places{floats(inputs[1]), in[1][0] * in[1][1]};
    return layer_norm(in->type, inputs[0], nullptr, places, floats(inputs[2]), floats(inputs[3]),
                      outputs[0], outputs[1], tokens_of(*in), in[0][1], a.epsilon, stream);
  }
};

}  // namespace samtrt
