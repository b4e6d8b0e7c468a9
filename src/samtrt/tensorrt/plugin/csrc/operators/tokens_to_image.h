#pragma once

#include "image.h"

namespace samtrt {

// (queries, image, image_pe) -> out; [P, 8 T, 256], [P, HW, 256], [1, HW, 256] -> [P, 8 T, 256]
struct TokensToImage : Operator {
  static constexpr char const* kName = "SamtrtTokensToImage";
  static constexpr int kInputs = 3, kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows, Kind::kRows, Kind::kRows, Kind::kRows};

  static bool supported(Attributes const&, Tensor const& queries) {
    // A size that is worked out at run time counts as unknown until then.
    return queries.rank == 3 && (queries[2] == kChannels || queries[2] < 0);
  }

  static size_t workspace(Tensor const* in) {
    return tokens_to_image_workspace(in[0][0], in[0][1]);
  }

  static cudaError_t run(Attributes const&, Tensor const* in, void const* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream) {
    return tokens_to_image(in->type, inputs[0], inputs[1], inputs[2], outputs[0], workspace,
                           in[0][0], in[0][1], in[1][1], stream);
  }
};

}  // namespace samtrt
