#pragma once

#include "grid.h"

namespace samtrt {

// x -> y; both [B, C, G, G]
struct Gelu : Operator {
  static constexpr char const* kName = "SamtrtGelu";
  static constexpr int kInputs = 1, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kGrid, Kind::kGrid};

  static bool supported(Attributes const&, Tensor const& x) {
    return is_square(x) && x[1] % 8 == 0;  // whole vectors of 16 bytes
  }

  static cudaError_t run(Attributes const&, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return gelu(in->type, false, inputs[0], outputs[0], tokens_of(*in), in[0][1], stream);
  }
};

// The same by tanh.
struct GeluTanh : Gelu {
  static constexpr char const* kName = "SamtrtGeluTanh";

  static cudaError_t run(Attributes const&, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return gelu(in->type, true, inputs[0], outputs[0], tokens_of(*in), in[0][1], stream);
  }
};

}  // namespace samtrt
