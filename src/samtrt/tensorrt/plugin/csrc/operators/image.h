// What the mask decoder's operators have in common: the image as rows [P, HW, 256], one for each
// cell of the embedding. P prompts and T tokens vary from run to run; HW does not.
#pragma once

#include "../operator.h"

namespace samtrt {

// The sizes that all checkpoints share.
constexpr int kChannels = 256, kHeadCount = 8, kMaskCount = 4;

// As many cells as the kernels take at once.
inline bool is_image(Tensor const& x) {
  return x.rank == 3 && x[1] > 0 && x[1] % 64 == 0 && x[2] == kChannels;
}

// An operator that must know the height and width of the embedding in cells.
struct WithSide : Operator {
  struct Attributes {
    int32_t side;
    float epsilon;
  };

  static constexpr int kFieldCount = 2;
  static constexpr Field kFields[]{{"side", false}, {"epsilon", true}};
};

}  // namespace samtrt
