#pragma once

#include "tokens.h"

namespace samtrt {

// (tokens, mixed, 12 weights as in MlpWeights) -> result;
// [P, T, 256], [P, 8 T, 256] -> [P, T, 256]
struct TokenMlp : WithEpsilon {
  static constexpr char const* kName = "SamtrtTokenMlp";
  static constexpr int kInputs = 14, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows,   Kind::kRows,   Kind::kRows,   Kind::kFloats,
                                 Kind::kRows,   Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kRows,   Kind::kFloats, Kind::kRows,   Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kRows};

  static MlpWeights weights(void const* const* w) {
    return {w[0], floats(w[1]), w[2], floats(w[3]), floats(w[4]),  floats(w[5]),
            w[6], floats(w[7]), w[8], floats(w[9]), floats(w[10]), floats(w[11])};
  }

  static size_t workspace(Tensor const* in) { return token_mlp_workspace(in[0][0], in[0][1]); }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream) {
    return token_mlp(in->type, inputs[1], inputs[0], weights(inputs + 2), outputs[0], workspace,
                     in[0][0], in[0][1], a.epsilon, stream);
  }
};

}  // namespace samtrt
