#pragma once

#include "tokens.h"

namespace samtrt {

// (tokens, token_pe, query, bias, key) -> out; [P, T, 256] twice, [128, 256], [128], [8, 256, 16]
// -> [P, 8 T, 256], or of the first `wanted` tokens where that is not 0
struct ImageQueries : Operator {
  static constexpr char const* kName = "SamtrtImageQueries";
  static constexpr int kInputs = 5, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows,   Kind::kRows, Kind::kRows,
                                 Kind::kFloats, Kind::kRows, Kind::kRows};

  struct Attributes {
    int32_t wanted;
  };

  static constexpr int kFieldCount = 1;
  static constexpr Field kFields[]{{"wanted", false}};

  static bool valid(Attributes const& a) { return a.wanted >= 0; }

  static Shape output(Attributes const& a, int) {
    return {
        3,
        {size_of(0, 0), a.wanted > 0 ? always(kHeadCount * a.wanted) : size_of(0, 1, 1, kHeadCount),
         always(kChannels)}};
  }

  static bool supported(Attributes const&, Tensor const& tokens) { return are_tokens(tokens); }

  static cudaError_t run(Attributes const& a, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void*, cudaStream_t stream) {
    return image_queries(in->type, inputs[0], inputs[1], inputs[2], floats(inputs[3]), inputs[4],
                         outputs[0], in[0][0], in[0][1], a.wanted > 0 ? a.wanted : in[0][1],
                         stream);
  }
};

}  // namespace samtrt
