#pragma once

#include "tokens.h"

namespace samtrt {

// (tokens, mixed, 12 weights as in HeadWeights) -> (hyper, iou);
// [P, T, 256], [P, 8 * 5, 256] -> [P, 4, 32], [P, 4]
struct TokenHeads : WithEpsilon {
  static constexpr char const* kName = "SamtrtTokenHeads";
  static constexpr int kInputs = 14, kOutputs = 2;
  static constexpr Kind kKinds[]{Kind::kRows, Kind::kRows,   Kind::kRows,   Kind::kFloats,
                                 Kind::kRows, Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kRows, Kind::kFloats, Kind::kRows,   Kind::kFloats,
                                 Kind::kRows, Kind::kFloats, Kind::kRows,   Kind::kFloats};

  static HeadWeights weights(void const* const* w) {
    return {w[0], floats(w[1]), w[2], floats(w[3]), floats(w[4]), floats(w[5]),
            w[6], floats(w[7]), w[8], floats(w[9]), w[10],        floats(w[11])};
  }

  static Shape output(Attributes const&, int index) {
    return {index == 0 ? 3 : 2, {size_of(0, 0), always(kMaskCount), always(kChannels / 8)}};
  }

  static size_t workspace(Tensor const* in) { return token_heads_workspace(in[0][0]); }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream) {
    return token_heads(in->type, inputs[1], inputs[0], weights(inputs + 2), outputs[0],
                       static_cast<float*>(outputs[1]), workspace, in[0][0], in[0][1], a.epsilon,
                       stream);
  }
};

}  // namespace samtrt
