#pragma once

#include "grid.h"

namespace samtrt {

// images -> out; [B, 3, S, S] -> [B, 768, S / 16, S / 16]
struct Patches : Operator {
  static constexpr char const* kName = "SamtrtPatches";
  static constexpr int kInputs = 1, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kPixels, Kind::kGrid};
  static constexpr int kColors = 3, kPatch = 16;

  static Shape output(Attributes const&, int) {
    return {4,
            {size_of(0, 0), always(kColors * kPatch * kPatch), size_of(0, 2, kPatch),
             size_of(0, 3, kPatch)}};
  }

  static bool supported(Attributes const&, Tensor const& x) {
    return is_square(x) && x[1] == kColors && x[2] % kPatch == 0;
  }

  static cudaError_t run(Attributes const&, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return patches(in->type, inputs[0], in->is_float, outputs[0], in[0][0], in[0][2], stream);
  }
};

}  // namespace samtrt
