#pragma once

#include "image.h"

namespace samtrt {

// (image, hyper, first, first_bias, norm_weight, norm_bias, second, second_bias) -> masks;
// [P, S * S, 256], [P, 4, 32], [256, 256], [64] three times, [128, 64], [32] -> [P, 4, 4 S, 4 S]
struct UpscaleMasks : WithSide {
  static constexpr char const* kName = "SamtrtUpscaleMasks";
  static constexpr int kInputs = 8, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows,   Kind::kRows,   Kind::kRows,
                                 Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kRows,   Kind::kFloats, Kind::kFloats};

  static bool valid(Attributes const& a) {
    return a.side > 0 && a.side % 4 == 0 && a.epsilon > 0.0F;
  }

  static Shape output(Attributes const& a, int) {
    return {4, {size_of(0, 0), always(kMaskCount), always(4 * a.side), always(4 * a.side)}};
  }

  static bool supported(Attributes const& a, Tensor const& image) {
    return is_image(image) && image[1] == a.side * a.side;
  }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return upscale_masks(in->type, inputs[0], inputs[1], inputs[2], floats(inputs[3]),
                         floats(inputs[4]), floats(inputs[5]), inputs[6], floats(inputs[7]),
                         static_cast<float*>(outputs[0]), in[0][0], a.side, a.epsilon, stream);
  }
};

}  // namespace samtrt
