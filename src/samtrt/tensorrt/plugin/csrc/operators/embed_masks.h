#pragma once

#include "image.h"

namespace samtrt {

// (image, masks, has_mask, 11 weights as in MaskEmbedding) -> out;
// [1 or P, S * S, 256], [P, 1, 4 S, 4 S], [P] -> [P, S * S, 256]
struct EmbedMasks : WithSide {
  static constexpr char const* kName = "SamtrtEmbedMasks";
  static constexpr int kInputs = 14, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows,   Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kRows};

  static bool valid(Attributes const& a) { return a.side > 0 && a.epsilon > 0.0F; }

  static Shape output(Attributes const&, int) {
    return {3, {size_of(1, 0), size_of(0, 1), size_of(0, 2)}};
  }

  static bool supported(Attributes const& a, Tensor const& image) {
    return is_image(image) && image[1] == a.side * a.side;
  }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    void const* const* const w = inputs + 3;
    MaskEmbedding const weights{floats(w[0]), floats(w[1]), floats(w[2]), floats(w[3]),
                                floats(w[4]), floats(w[5]), floats(w[6]), floats(w[7]),
                                floats(w[8]), floats(w[9]), floats(w[10])};
    return embed_masks(in->type, inputs[0], floats(inputs[1]), floats(inputs[2]), weights,
                       outputs[0], in[0][0], in[1][0], a.side, a.epsilon, stream);
  }
};

}  // namespace samtrt
