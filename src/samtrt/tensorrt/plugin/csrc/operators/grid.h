// What the image encoder's operators have in common: activations [B, C, G, G], which are asked for
// with channels last, so that a kernel has [B, G, G, C].
#pragma once

#include "../operator.h"

namespace samtrt {

inline bool is_square(Tensor const& x) { return x.rank == 4 && x[2] == x[3]; }

inline int tokens_of(Tensor const& x) { return x[0] * x[2] * x[3]; }

}  // namespace samtrt
