#pragma once

#include "tokens.h"

namespace samtrt {

// (tokens, token_pe, qkv, qkv_bias, out, out_bias, norm_weight, norm_bias) -> result;
// [P, T, 256] twice, [768, 256], [768], [256, 256], [256] three times -> [P, T, 256]
struct SelfAttention : Operator {
  static constexpr char const* kName = "SamtrtSelfAttention";
  static constexpr int kInputs = 8, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows,   Kind::kRows,   Kind::kRows,
                                 Kind::kFloats, Kind::kRows,   Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kRows};

  struct Attributes {
    int32_t is_first;
    float epsilon;
  };

  static constexpr int kFieldCount = 2;
  static constexpr Field kFields[]{{"is_first", false}, {"epsilon", true}};

  static bool valid(Attributes const& a) {
    return (a.is_first == 0 || a.is_first == 1) && a.epsilon > 0.0F;
  }

  static bool supported(Attributes const&, Tensor const& tokens) { return are_tokens(tokens); }

  static size_t workspace(Tensor const* in) { return self_attention_workspace(in[0][0], in[0][1]); }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream) {
    return self_attention(in->type, inputs[0], inputs[1], inputs[2], floats(inputs[3]), inputs[4],
                          floats(inputs[5]), floats(inputs[6]), floats(inputs[7]), outputs[0],
                          workspace, in[0][0], in[0][1], a.is_first, a.epsilon, stream);
  }
};

}  // namespace samtrt
