// What operators on the mask decoder's tokens have in common: [P, T, 256], of P prompts T tokens.
#pragma once

#include "image.h"

namespace samtrt {

inline bool are_tokens(Tensor const& x) { return x.rank == 3 && (x[2] == kChannels || x[2] < 0); }

struct WithEpsilon : Operator {
  struct Attributes {
    float epsilon;
  };

  static constexpr int kFieldCount = 1;
  static constexpr Field kFields[]{{"epsilon", true}};

  static bool valid(Attributes const& a) { return a.epsilon > 0.0F; }

  static bool supported(Attributes const&, Tensor const& x) { return are_tokens(x); }
};

}  // namespace samtrt
