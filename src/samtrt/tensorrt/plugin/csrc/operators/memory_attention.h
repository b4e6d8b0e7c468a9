#pragma once

#include "image.h"

namespace samtrt {

// (queries, keys, values, mask) -> out; [N, Q, 256], [N, K, 256], [N, K, C], [N or 1, K]
// -> [N, Q, C]
struct MemoryAttention : Operator {
  static constexpr char const* kName = "SamtrtMemoryAttention";
  static constexpr int kInputs = 4, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows, Kind::kRows, Kind::kRows, Kind::kFloats, Kind::kRows};

  static Shape output(Attributes const&, int) {
    return {3, {size_of(0, 0), size_of(0, 1), size_of(2, 2)}};
  }

  static bool supported(Attributes const&, Tensor const& queries) {
    // A size that is worked out at run time counts as unknown until then.
    return queries.rank == 3 && (queries[2] == kChannels || queries[2] < 0);
  }

  static size_t workspace(Tensor const* in) { return memory_attention_workspace(in[2][2]); }

  static cudaError_t run(Attributes const&, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream) {
    return memory_attention(in->type, inputs[0], inputs[1], inputs[2], floats(inputs[3]),
                            outputs[0], workspace, in[0][0], in[3][0], in[0][1], in[1][1], in[2][2],
                            stream);
  }
};

}  // namespace samtrt
