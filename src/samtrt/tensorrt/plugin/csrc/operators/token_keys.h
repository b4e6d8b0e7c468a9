#pragma once

#include "tokens.h"

namespace samtrt {

// (tokens, token_pe, 8 weights as in KeyProjections) -> (keys, offsets, values);
// [P, T, 256] twice -> [P, 8 T, 256], [P, 8 T], [P, 8 T, 256]
struct TokenKeys : Operator {
  static constexpr char const* kName = "SamtrtTokenKeys";
  static constexpr int kInputs = 10, kOutputs = 3;
  static constexpr Kind kKinds[]{Kind::kRows, Kind::kRows,   Kind::kRows, Kind::kFloats,
                                 Kind::kRows, Kind::kFloats, Kind::kRows, Kind::kFloats,
                                 Kind::kRows, Kind::kFloats, Kind::kRows, Kind::kRows,
                                 Kind::kRows};

  static KeyProjections weights(void const* const* w) {
    return {w[0], floats(w[1]), w[2], floats(w[3]), w[4], floats(w[5]), w[6], floats(w[7])};
  }

  static Shape output(Attributes const&, int index) {
    return {index == 1 ? 2 : 3, {size_of(0, 0), size_of(0, 1, 1, kHeadCount), always(kChannels)}};
  }

  static bool supported(Attributes const&, Tensor const& tokens) { return are_tokens(tokens); }

  static cudaError_t run(Attributes const&, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return token_keys(in->type, inputs[0], inputs[1], weights(inputs + 2), outputs[0], outputs[1],
                      outputs[2], in[0][0], in[0][1], stream);
  }
};

}  // namespace samtrt
