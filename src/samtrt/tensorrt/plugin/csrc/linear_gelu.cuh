#pragma once

#include "kernels.h"

namespace samtrt {

// Launches Hopper's own kernel; returns false where it was not compiled, does not fit the GPU, or
// has no such sizes.
bool launch_hopper_linear_gelu(Type type, void const* x, void const* weight, float const* bias,
                               void* y, int rows, int inputs, int outputs, cudaStream_t stream,
                               cudaError_t* error);

}  // namespace samtrt
