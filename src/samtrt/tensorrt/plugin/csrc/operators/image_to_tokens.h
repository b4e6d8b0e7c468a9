#pragma once

#include "image.h"

namespace samtrt {

// (image, image_pe, keys, offsets, values, weight, bias) -> out; [P, HW, 256], [1, HW, 256],
// [P, 8 T, 256], [P, 8 T], [P, 8 T, 256], [256] twice -> [P, HW, 256]
struct ImageToTokens : Operator {
  static constexpr char const* kName = "SamtrtImageToTokens";
  static constexpr int kInputs = 7, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows, Kind::kRows,   Kind::kRows,   Kind::kRows,
                                 Kind::kRows, Kind::kFloats, Kind::kFloats, Kind::kRows};

  struct Attributes {
    int32_t heads;
    float epsilon;
  };

  static constexpr int kFieldCount = 2;
  static constexpr Field kFields[]{{"num_heads", false}, {"epsilon", true}};

  static bool valid(Attributes const& a) { return a.heads == kHeadCount && a.epsilon > 0.0F; }

  static bool supported(Attributes const&, Tensor const& image) { return is_image(image); }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return image_to_tokens(in->type, inputs[0], inputs[1], inputs[2], inputs[3], inputs[4],
                           floats(inputs[5]), floats(inputs[6]), outputs[0], in[0][0],
                           in[2][1] / kHeadCount, in[0][1], a.epsilon, stream);
  }
};

}  // namespace samtrt
